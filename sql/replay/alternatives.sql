-- What would have fitted instead: the nearest earlier and later start on the same tables, and other tables with at
-- least as many seats at the same time; each free in the check's own snapshot and in what later evidence adds to it.
-- Grain: alternative × table (tables that move together share shift_s).
-- Parameters: check_id: the check; meanwhile has what others were about to take.
with asked as (
    select
        q.check_id, q.resource_id, q.window_lower, q.window_upper,
        c.booking_id, c.restaurant_id, c.checked_at, c.scope_lower_pos, c.scope_upper_pos,
        k.capacity
    from requests as q
    inner join checks as c using (check_id)
    left join capacities as k
        on k.check_id = q.check_id
        and k.table_id = q.resource_id
    where q.check_id = $check_id
    and q.resource_type = 'table'
    and q.lower_inc
    and not q.upper_inc
    and q.window_lower is not null
    and q.window_upper is not null
),

meal as (
    select
        any_value(window_lower) as window_lower,
        any_value(window_upper) as window_upper,
        any_value(booking_id) as booking_id,
        any_value(restaurant_id) as restaurant_id,
        any_value(checked_at) as checked_at,
        any_value(scope_lower_pos) as scope_lower_pos,
        any_value(scope_upper_pos) as scope_upper_pos,
        -- Null, and so no other table, when the seats of one requested table are not in evidence.
        if(count(*) = count(capacity), sum(capacity), null) as seats
    from asked
    having count(*) > 0
),

blockers as (
    select a.resource_id, a.lower_pos, a.upper_pos, a.window_lower, a.window_upper, a.upper_inc
    from snapshot_allocations as a
    cross join meal
    where a.check_id = $check_id
    and a.resource_type = 'table'
    and a.booking_id is distinct from meal.booking_id
    and (
        not a.shadow
        or exists (
            from rules as r
            where not r.firm_only
            and meal.checked_at >= coalesce(r.valid_from, '-infinity'::timestamptz)
            and meal.checked_at < coalesce(r.valid_to, 'infinity'::timestamptz)
        )
    )

    union all

    select n.resource_id, w.lower_pos, w.upper_pos, w.window_lower, w.window_upper, w.upper_inc
    from rivals as n
    inner join windows as w
        on w.window_text = n."window"
    where n.check_id = $check_id
    and n.source not in ('snapshot', 'same request')

    union all

    select resource_id, lower_pos, upper_pos, window_lower, window_upper, upper_inc
    from meanwhile
),

-- A start that is just free lies where something ends, or as long before something begins as the meal takes.
starts as (
    select b.window_upper + if(b.upper_inc, interval 1 microsecond, interval 0 second) as start_at
    from blockers as b
    semi join asked using (resource_id)

    union

    select b.window_lower - (meal.window_upper - meal.window_lower) as start_at
    from blockers as b
    semi join asked using (resource_id)
    cross join meal
),

proposed as (
    select
        a.resource_id,
        s.start_at as window_lower,
        s.start_at + (a.window_upper - a.window_lower) as window_upper
    from asked as a
    inner join starts as s
        on s.start_at > a.checked_at
        and s.start_at <> a.window_lower

    union all

    select k.table_id as resource_id, meal.window_lower, meal.window_upper
    from capacities as k
    inner join meal
        on k.capacity >= meal.seats
        and meal.window_lower > meal.checked_at
    anti join asked
        on asked.resource_id = k.table_id
    anti join tables as t
        on t.table_id = k.table_id
        and not t.active
    where k.check_id = $check_id
    -- A writer may list what other restaurants have.
    and coalesce(k.restaurant_id = meal.restaurant_id, true)
),

verified as (
    select
        p.*,
        (epoch_us(p.window_lower) - epoch_us(meal.window_lower)) / 1000000 as shift_s
    from proposed as p
    inner join meal
        -- Beyond its scope a snapshot says nothing.
        on meal.scope_lower_pos <= epoch_us(p.window_lower)::hugeint * 4
        and epoch_us(p.window_upper)::hugeint * 4 - 1 <= meal.scope_upper_pos
    anti join blockers as b
        on b.resource_id = p.resource_id
        and b.lower_pos <= epoch_us(p.window_upper)::hugeint * 4 - 1
        and epoch_us(p.window_lower)::hugeint * 4 <= b.upper_pos
),

-- Tables that were asked for together must be free together, and of the earlier and later starts the nearest is told.
together as (
    select v.*
    from verified as v
    where v.shift_s = 0
    or (select count(*) from verified as same where same.shift_s = v.shift_s) = (select count(*) from asked)
)

select
    v.resource_id,
    t.table_number,
    '["' || v.window_lower::varchar || '","' || v.window_upper::varchar || '")' as "window",
    v.window_lower,
    v.window_upper,
    v.shift_s,
    k.capacity as seats
from together as v
left join tables as t
    on t.table_id = v.resource_id
left join capacities as k
    on k.check_id = $check_id
    and k.table_id = v.resource_id
where v.shift_s = 0
or v.shift_s = (select min(shift_s) from together where shift_s > 0)
or v.shift_s = (select max(shift_s) from together where shift_s < 0)
order by abs(v.shift_s) > 0 desc, v.shift_s desc, k.capacity, t.table_number, v.resource_id
