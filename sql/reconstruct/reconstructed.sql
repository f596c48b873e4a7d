-- Who held what at the instant of a check that recorded no snapshot, where its shape has none: what captures and logs show of
-- the same restaurant and time. Certain where a version stood, possible where nobody can tell whether it had gone by then.
-- Grain: check of the idempotency shape × allocation.
-- Parameters: none.
with asked as (
    select
        q.check_id,
        c.restaurant_id,
        c.checked_at,
        c.skew_s,
        min(q.lower_pos) as lower_pos,
        max(q.upper_pos) as upper_pos,
        -- Numbers of days since 1970.
        lower_pos // 345600000000 as first_day,
        upper_pos // 345600000000 as last_day
    from requests as q
    inner join checks as c using (check_id)
    where c.shape = 'idempotency'
    group by all
    having lower_pos is not null
),

missed as (
    select v.key as allocation_id, k.captured_at as gone_at
    from vanished as v
    inner join captures as k using (capture_id)
    where v.relation = 'allocations'

    union all

    select key as allocation_id, try_cast(archived_at as timestamptz) as gone_at
    from raw_allocations_archive

    union all

    select v.allocation_id, l.logged_at as gone_at
    from (
        select distinct allocation_id, booking_id, resource_id
        from allocation_versions
        where booking_id in (select booking_id from logged where event = 'unassigned')
    ) as v
    inner join logged as l
        on l.booking_id = v.booking_id
        and l.event = 'unassigned'
        and coalesce(l.table_id = v.resource_id, true)
),

spans as materialized (
    select
        v.*,
        -- Whatever was not changed before it was gone stood until then, or was changed back in between.
        least(v.next_updated_at, g.gone_at) as until,
        v.lower_pos // 345600000000 as first_day,
        v.upper_pos - v.lower_pos <= 345600000000 as is_short
    from (
        select
            *,
            lead(updated_at) over (partition by allocation_id order by updated_at, first_seen_at) as next_updated_at
        from (
            -- Of when it was changed, where nobody wrote that down, the first sighting is the latest bound.
            select * replace (coalesce(updated_at, first_seen_at) as updated_at)
            from allocation_versions
            semi join asked using (restaurant_id)
        )
    ) as v
    asof left join missed as g
        on g.allocation_id = v.allocation_id
        -- What was seen later was not gone.
        and g.gone_at >= greatest(v.updated_at, v.last_seen_at)
    where v.lower_pos is not null
),

-- What lasts no longer than a day began on a day of the request, or the day before; the few that last longer are all tried.
tried as (
    select a.check_id, a.checked_at, a.skew_s, a.lower_pos as asked_lower_pos, a.upper_pos as asked_upper_pos, s.*
    from (
        select *, unnest(range((first_day - 1)::bigint, (last_day + 1)::bigint)) as day
        from asked
        where last_day - first_day < 100
    ) as a
    inner join spans as s
        on s.restaurant_id = a.restaurant_id
        and s.first_day = a.day
        and s.is_short

    union all

    select a.check_id, a.checked_at, a.skew_s, a.lower_pos as asked_lower_pos, a.upper_pos as asked_upper_pos, s.*
    from asked as a
    inner join spans as s
        on s.restaurant_id = a.restaurant_id
        and (not s.is_short or a.last_day - a.first_day >= 100)
)

select
    check_id,
    allocation_id, booking_id, restaurant_id, resource_type, resource_id,
    "window", window_lower, window_upper, lower_inc, upper_inc, lower_pos, upper_pos,
    shadow, is_maintenance, created_at, updated_at,
    -- A log tells what was given, not what became of it; and by a clock that may be wrong nothing is certain.
    if(checked_at <= last_seen_at and sources <> ['log'] and skew_s is not null, 'certain', 'possible') as presence,
    until,
    array_to_string(sources, ', ') as source
from tried
where lower_pos <= asked_upper_pos
and asked_lower_pos <= upper_pos
and updated_at <= checked_at
and checked_at < coalesce(until, 'infinity'::timestamptz)
order by check_id, resource_type, resource_id, lower_pos, allocation_id, updated_at
