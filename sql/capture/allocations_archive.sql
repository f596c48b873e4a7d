-- Every allocation that the pruner moved away, ids as they are, else as text in UTC.
-- Grain: allocation.
-- Parameters: none.
select
    id as key,
    booking_id,
    restaurant_id,
    resource_type::text as resource_type,
    resource_id,
    "window"::text as window_text,
    shadow::text as shadow,
    is_maintenance::text as is_maintenance,
    created_at::text as created_at,
    updated_at::text as updated_at,
    created_by,
    archived_at::text as archived_at,
    xmin::text as row_xid
from allocations_archive
order by id
