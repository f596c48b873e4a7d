-- The allocations in one check's own snapshot, or reconstructed for it, by the table's name.
-- Grain: allocation.
-- Parameters: check_id.
select
    a.allocation_id,
    a.booking_id,
    a.resource_type,
    a.resource_id,
    t.table_number,
    a."window",
    a.window_lower,
    a.window_upper,
    a.shadow,
    a.is_maintenance,
    a.updated_at,
    -- The words of rivals, which are some of these.
    case when a.item_no is not null then 'snapshot' when a.presence = 'certain' then 'reconstructed' else 'perhaps gone' end
        as source
from (
    select * from snapshot_allocations
    union all by name
    select * exclude (until, source) from reconstructed
) as a
left join tables as t
    on t.table_id = a.resource_id
    and a.resource_type = 'table'
where a.check_id = $check_id
and a.lower_pos is not null
order by t.table_number, a.resource_type, a.resource_id, a.window_lower, a.allocation_id
