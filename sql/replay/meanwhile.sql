-- What others made firm at the check's restaurant in transactions that began within the hour before it and that other evidence
-- shows later: they may not have been committed when its own snapshot was taken.
-- Grain: version of an allocation.
-- Parameters: check_id.
select
    v.allocation_id,
    v.resource_id,
    v.window_lower,
    v.window_upper,
    v.upper_inc,
    v.lower_pos,
    v.upper_pos
from allocation_versions as v
inner join checks as c
    on c.restaurant_id = v.restaurant_id
where c.check_id = $check_id
and v.resource_type = 'table'
and not v.shadow
and v.booking_id is distinct from c.booking_id
and v.updated_at between c.checked_at - interval 1 hour and c.checked_at
and v.last_seen_at >= c.checked_at
order by v.allocation_id, v.updated_at
