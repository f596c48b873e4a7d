-- Every entry of every snapshot's list of allocations, still as text.
-- Grain: check × place in the list.
-- Parameters: none.
with items as (
    select
        check_id,
        unnest(snapshot.allocations) as item,
        generate_subscripts(snapshot.allocations, 1) as item_no
    from snapshots
    where snapshot_problem is null
)

select
    check_id,
    item_no,
    -- PostgreSQL compares uuids, not their spelling.
    coalesce(try_cast(item.id as uuid)::varchar, item.id) as allocation_id,
    coalesce(try_cast(item.booking_id as uuid)::varchar, item.booking_id) as booking_id,
    coalesce(try_cast(item.restaurant_id as uuid)::varchar, item.restaurant_id) as restaurant_id,
    item.resource_type as resource_type,
    coalesce(try_cast(item.resource_id as uuid)::varchar, item.resource_id) as resource_id,
    -- A list would read like a closed range once it is text.
    if(json_type(item."window") = 'ARRAY', 'list ' || item."window", json_extract_string(item."window", '$')) as window_text,
    item.shadow as shadow_text,
    item.is_maintenance as is_maintenance_text,
    item.created_at as created_at_text,
    item.updated_at as updated_at_text
from items
order by check_id, item_no
