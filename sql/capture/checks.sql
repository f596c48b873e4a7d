-- Every recorded check of the audit shape, as text in UTC.
-- Grain: check.
-- Parameters: none.
select
    id::text as key,
    booking_id::text as booking_id,
    confirmed::text as confirmed,
    conflict_details::text as conflict_details,
    checked_at::text as checked_at,
    snapshot_data::text as snapshot_data,
    -- As stored, compressed: what a purge would free.
    pg_column_size(snapshot_data)::text as snapshot_stored_bytes,
    pg_column_size(conflict_details)::text as conflict_stored_bytes,
    xmin::text as row_xid
from booking_confirmation_results
order by id
