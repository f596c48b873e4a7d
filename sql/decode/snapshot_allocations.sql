-- The allocations of each check's own snapshot, typed; entries that cannot be decoded are in quarantine instead.
-- Grain: check × allocation in its snapshot.
-- Parameters: none.
select
    s.check_id,
    l.item_no,
    -- Named one by one, so that the statement reads the same wherever it is kept: verify compares it.
    e.allocation_id,
    e.booking_id,
    e.restaurant_id,
    e.resource_type,
    e.resource_id,
    e."window",
    e.window_lower,
    e.window_upper,
    e.lower_inc,
    e.upper_inc,
    e.lower_pos,
    e.upper_pos,
    e.shadow,
    e.is_maintenance,
    e.created_at,
    e.updated_at
from snapshots as s
inner join snapshot_listing as l using (check_no)
inner join snapshot_entries as e using (entry_no)
where e.problem is null
