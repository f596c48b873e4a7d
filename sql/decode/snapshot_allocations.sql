-- The allocations of each check's own snapshot, typed; entries that cannot be decoded are in quarantine instead.
-- Grain: check × allocation in its snapshot.
-- Parameters: none.
select
    i.check_id,
    i.item_no,
    i.allocation_id,
    i.booking_id,
    i.restaurant_id,
    i.resource_type,
    i.resource_id,
    w."window",
    w.window_lower,
    w.window_upper,
    w.lower_inc,
    w.upper_inc,
    w.lower_pos,
    w.upper_pos,
    try_cast(i.shadow_text as boolean) as shadow,
    try_cast(i.is_maintenance_text as boolean) as is_maintenance,
    try_cast(i.created_at_text as timestamptz) as created_at,
    try_cast(i.updated_at_text as timestamptz) as updated_at
from snapshot_items as i
left join windows as w using (window_text)
left join quarantine as q
    on q.relation = 'snapshot allocations'
    and q.key = i.check_id
    and q.item_no = i.item_no
where q.key is null
order by i.check_id, i.item_no
