-- Every allocation that the pruner moved away, as text in UTC.
-- Grain: allocation.
-- Parameters: none.
select
    id::text as key,
    booking_id::text as booking_id,
    restaurant_id::text as restaurant_id,
    resource_type::text as resource_type,
    resource_id::text as resource_id,
    "window"::text as window_text,
    shadow::text as shadow,
    is_maintenance::text as is_maintenance,
    created_at::text as created_at,
    updated_at::text as updated_at,
    created_by::text as created_by,
    archived_at::text as archived_at,
    xmin::text as row_xid
from allocations_archive
order by id
