-- The first look at what a check asked for by which its rival had committed, if it ever did: the complete snapshot of another
-- check, or a capture. No check waits for a minute, so that one which began a minute later looked later.
-- Grain: one row, or none.
-- Parameters: check_id.
with asked as (
    select
        c.restaurant_id,
        c.checked_at,
        min(q.lower_pos) as lower_pos,
        max(q.upper_pos) as upper_pos
    from requests as q
    inner join checks as c using (check_id)
    where q.check_id = $check_id
    group by c.restaurant_id, c.checked_at
),

looks as (
    select
        c.checked_at as looked_at,
        c.check_id,
        null as capture_id
    from asked
    inner join checks as c
        on c.restaurant_id = asked.restaurant_id
        and c.checked_at > asked.checked_at + interval 1 minute
        and c.scope_lower_pos <= asked.lower_pos
        and asked.upper_pos <= c.scope_upper_pos
    anti join quarantine as q
        on q.key = c.check_id
        and q.relation in ('checks', 'snapshot allocations')

    union all

    select
        k.captured_at as looked_at,
        null as check_id,
        k.capture_id
    from asked
    inner join captures as k
        on k.captured_at > asked.checked_at + interval 1 minute
)

select
    looked_at,
    check_id,
    capture_id
from looks
order by looked_at, check_id, capture_id
limit 1
