-- Every check with what was recorded about it, typed.
-- Grain: check.
-- Parameters: none.
with silent as (
    -- Writers who say no request, and so no restaurant; one who says a request of no restaurant means what it says.
    select
        s.check_no,
        s.check_id,
        s.booking_id
    from snapshots as s
    left join named_rivals as n using (check_id)
    where coalesce(s.restaurant_id, n.restaurant_id) is null
    and s.table_ids is null
),

-- The booking's own rows are of its restaurant.
own as (
    select
        s.check_id,
        any_value(a.restaurant_id) as restaurant_id
    from silent as s
    inner join (
        select booking_id, restaurant_id from raw_allocations
        union all
        select booking_id, restaurant_id from raw_allocations_archive
    ) as a
        on a.booking_id = s.booking_id
    group by s.check_id
    having count(distinct a.restaurant_id) = 1
),

-- So is what the snapshot lists, where all of it is of one.
listed as (
    select
        s.check_id,
        any_value(a.restaurant_id) as restaurant_id
    from silent as s
    inner join snapshot_allocations as a using (check_id)
    group by s.check_id
    having count(distinct a.restaurant_id) = 1
),

-- And a table has its own, or it is lent to another.
asked as (
    select
        q.check_id,
        any_value(t.restaurant_id) as restaurant_id
    from requests as q
    inner join tables as t
        on t.table_id = q.resource_id
    group by q.check_id
    having count(distinct t.restaurant_id) = 1
),

placed as (
    select
        s.* exclude (restaurant_id),
        coalesce(
            s.restaurant_id,
            -- The key that PostgreSQL compared.
            n.restaurant_id,
            own.restaurant_id, listed.restaurant_id, asked.restaurant_id
        ) as restaurant_id
    from snapshots as s
    left join named_rivals as n using (check_id)
    left join own using (check_id)
    left join listed using (check_id)
    left join asked using (check_id)
)

select
    s.check_no,
    s.check_id,
    s.booking_id,
    coalesce(if(ids.are_uuids, try_cast(s.restaurant_id as uuid)::varchar, null), s.restaurant_id) as restaurant_id,
    s.shape,
    -- The offset of a session's time zone, where the writer's default put it into the instant, is taken out again.
    try_cast(s.checked_at as timestamptz) - to_seconds(coalesce(clock.skew_s, 0)) as checked_at,
    try_cast(s.checked_at as timestamptz) as recorded_at,
    clock.skew_s,
    clock.sibling,
    case try_cast(s.confirmed as boolean) when true then 'confirmed' when false then 'refused' end as recorded_verdict,
    s.sqlstate,
    s.constraint_name,
    s.message,
    s.detail,
    s.hold_id,
    s.table_ids,
    w."window" as requested_window,
    w.window_lower as requested_lower,
    w.window_upper as requested_upper,
    scope."window" as scope_window,
    scope.window_lower as scope_lower,
    scope.window_upper as scope_upper,
    scope.lower_pos as scope_lower_pos,
    scope.upper_pos as scope_upper_pos,
    s.has_snapshot,
    s.snapshot_problem,
    s.snapshot_allocations,
    s.snapshot_bytes,
    s.conflict_bytes,
    s.stored_bytes,
    s.capture_id
from placed as s
cross join ids
left join clocks as clock using (check_id)
left join windows as w
    on w.window_text = s.requested_text
left join windows as scope
    on scope.window_text = s.scope_text
    -- A scope of another restaurant says nothing about this request.
    and coalesce(lower(s.scope_restaurant_id) = lower(s.restaurant_id), true)
-- Polars and Python know the years 1 to 9999 only, in any zone; a check at any other instant is in quarantine.
where year(try_cast(s.checked_at as timestamptz)) between 2 and 9998
order by checked_at, try_cast(s.check_id as bigint), s.check_id
