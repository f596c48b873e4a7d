-- What each check asked for: as the snapshot's request says, else as the conflict's list of attempted allocations says, else
-- inferred from the booking's own allocations.
-- Grain: check × requested resource.
-- Parameters: none.
with said as (
    select
        check_id,
        'request' as source,
        'table' as resource_type,
        unnest(table_ids) as resource_id,
        requested_text as window_text
    from snapshots

    union all

    select
        check_id,
        'attempted' as source,
        place.resource_type as resource_type,
        place.resource_id as resource_id,
        place.window_text as window_text
    from (
        select check_id, unnest(attempted) as place
        from snapshots
    )
),

decoded as (
    select distinct
        s.check_id,
        s.source,
        s.resource_type,
        coalesce(if(are_uuids, try_cast(s.resource_id as uuid)::varchar, null), s.resource_id) as resource_id,
        w.* exclude (window_text, is_empty, problem)
    from said as s
    cross join ids
    inner join windows as w using (window_text)
    where w.problem is null
),

silent as (
    select
        check_id,
        booking_id,
        try_cast(checked_at as timestamptz) as checked_at
    from snapshots
    anti join decoded using (check_id)
),

-- The booking's rows that the check itself saw: its hold's, where there are any, are what it was to make firm.
own_rows as (
    select
        s.check_id,
        a.resource_type,
        a.resource_id,
        a."window", a.window_lower, a.window_upper, a.lower_inc, a.upper_inc, a.lower_pos, a.upper_pos
    from silent as s
    inner join snapshot_allocations as a using (check_id, booking_id)
    where a.resource_type <> 'hold'
    qualify coalesce(a.shadow, false) = bool_or(coalesce(a.shadow, false)) over (partition by s.check_id)
),

-- Where it saw none: the rows that a capture found later, unless they were changed after the check.
later_rows as (
    select
        s.check_id,
        a.resource_type,
        a.resource_id,
        w.* exclude (window_text, is_empty, problem)
    from silent as s
    inner join (
        from raw_allocations
        union all by name
        select * exclude (archived_at) from raw_allocations_archive
    ) as a
        on a.booking_id = s.booking_id
        and try_cast(a.updated_at as timestamptz) <= s.checked_at + interval 1 minute
    inner join windows as w using (window_text)
    anti join own_rows as o
        on o.check_id = s.check_id
    where w.problem is null
    and a.resource_type <> 'hold'
    qualify a.capture_id = max(a.capture_id) over (partition by s.check_id, a.key)
),

every as (
    from decoded
    union all by name
    select 'inferred' as source, * from own_rows
    union all by name
    select distinct 'inferred' as source, * from later_rows
)

select *
from every
-- What the request says comes before what was attempted; inferred is only what neither says.
qualify source = max(source) over (partition by check_id)
order by check_id, resource_type, resource_id
