-- What is left of other bookings' holds for a time that one check asked for, of its tables where the row names one.
-- Grain: shadow row, or hold.
-- Parameters: check_id.
select distinct
    l.kind,
    l.key,
    l.booking_id,
    l."window",
    l.created_at
from leftovers as l
inner join requests as q
    on q.check_id = $check_id
    and l.lower_pos <= q.upper_pos
    and q.lower_pos <= l.upper_pos
    and coalesce(l.resource_id = q.resource_id, true)
inner join checks as c
    on c.check_id = q.check_id
    and c.restaurant_id = l.restaurant_id
    and c.booking_id is distinct from l.booking_id
order by l.kind, l.created_at, l.key
