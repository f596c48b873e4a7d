-- All pairs of allocations that one exclusion rule would not have let stand at once, and that did, by their timestamps.
-- Grain: pair of allocations, the versions of the two that were seen latest.
-- Parameters: equality, firm_only: the columns that the rule compares with =, and whether its predicate is NOT shadow.
with rows as not materialized (
    select
        rowid as id,
        hash(
            if(list_contains($equality::varchar[], 'restaurant_id'), restaurant_id, null),
            if(list_contains($equality::varchar[], 'resource_type'), resource_type, null),
            if(list_contains($equality::varchar[], 'resource_id'), resource_id, null),
            if(list_contains($equality::varchar[], 'booking_id'), booking_id, null),
            if(list_contains($equality::varchar[], 'shadow'), shadow, null),
            if(list_contains($equality::varchar[], 'is_maintenance'), is_maintenance, null)
        ) & 18446744069414584320 as key,
        case
            when lower_pos::double between 0 and 17179869180000000 then floor(lower_pos::double / 4000000)::ubigint
            when lower_pos < 0 then 0
            else 4294967295
        end as lower_s,
        case
            when upper_pos::double between 0 and 17179869180000000 then floor(upper_pos::double / 4000000)::ubigint
            when upper_pos < 0 then 0
            else 4294967295
        end as upper_s
    from allocation_versions
    -- An empty window has no place, and any null in a compared column passes, as in PostgreSQL.
    where lower_pos <= upper_pos
    and (not $firm_only or not shadow)
    and (restaurant_id is not null or not list_contains($equality::varchar[], 'restaurant_id'))
    and (resource_type is not null or not list_contains($equality::varchar[], 'resource_type'))
    and (resource_id is not null or not list_contains($equality::varchar[], 'resource_id'))
    and (booking_id is not null or not list_contains($equality::varchar[], 'booking_id'))
    and (shadow is not null or not list_contains($equality::varchar[], 'shadow'))
    and (is_maintenance is not null or not list_contains($equality::varchar[], 'is_maintenance'))
),

-- Up to the last step windows are in whole seconds since 1970, and keys are hashes. Rounding down and clamping keep order:
-- like a hash that two keys share, they may add pairs, and never lose one. In the end everything is compared exactly.
listed as materialized (
    select
        key,
        list(lower_s << 32 | upper_s) as windows
    from rows
    group by key
),

-- Where each window begins after the one listed before it has ended, all are apart: the store lists them in order, so that few
-- keys are left to sort. Of two that overlap, the earlier overlaps its next neighbour too: that begins no later than the other.
earlier as materialized (
    select distinct
        key | (this >> 32) as start_key,
        key | (this & 4294967295) as end_key,
        ceil(log2(((this & 4294967295) - (this >> 32) + 1)::double))::utinyint as level
    from (
        select
            key,
            unnest(windows) as this,
            unnest(windows[2:]) as next
        from (
            select
                key,
                list_sort(windows) as windows
            from listed
            where key in (
                select key
                from (
                    select
                        key,
                        unnest(windows) as this,
                        unnest(windows[2:]) as next
                    from listed
                )
                where next >> 32 <= this & 4294967295
            )
        )
    )
    where next >> 32 <= this & 4294967295
),

-- At its level cells are no shorter than a window is: it lies in at most two, and what it overlaps begins in one of them.
cells as (
    select
        *,
        unnest(list_distinct([start_key >> level, end_key >> level])) as cell
    from earlier
),

suspects as materialized (
    select
        id,
        key | lower_s as start_key,
        key | upper_s as end_key
    from rows
    where key in (select start_key & 18446744069414584320 from earlier)
),

-- What begins inside an earlier window, and the rows of that window itself.
within as materialized (
    select
        c.start_key,
        c.end_key,
        s.id,
        s.start_key as found_start_key,
        s.end_key as found_end_key
    from (
        select
            *,
            start_key >> level as cell
        from suspects
        cross join (select distinct level from earlier)
    ) as s
    inner join cells as c
        on c.level = s.level
        and c.cell = s.cell
        and s.start_key between c.start_key and c.end_key
),

near as materialized (
    select
        e.id as earlier_id,
        l.id as later_id
    from within as l
    inner join within as e
        on e.start_key = l.start_key
        and e.end_key = l.end_key
    where e.found_start_key = e.start_key
    and e.found_end_key = e.end_key
    and (
        l.found_start_key > e.start_key
        or l.found_end_key > e.end_key
        or (l.found_end_key = e.end_key and l.id > e.id)
    )
),

members as materialized (
    select
        rowid as id, allocation_id, booking_id, restaurant_id, resource_type, resource_id, "window",
        lower_pos, upper_pos, shadow, is_maintenance, updated_at, last_seen_at
    from allocation_versions
    where rowid in (select earlier_id from near union select later_id from near)
    -- A version existed unchanged from its last update, or a little later, as that is the start of a transaction, until it
    -- was last seen.
    and updated_at < last_seen_at
),

ways as (
    select earlier_id as id, later_id as other_id from near
    union all
    select later_id as id, earlier_id as other_id from near
),

overlapping as (
    select
        a.allocation_id,
        b.allocation_id as other_allocation_id,
        a.booking_id,
        b.booking_id as other_booking_id,
        a.restaurant_id,
        b.restaurant_id as other_restaurant_id,
        if(a.resource_type = b.resource_type, a.resource_type, null) as resource_type,
        if(a.resource_id = b.resource_id, a.resource_id, null) as resource_id,
        a."window",
        b."window" as other_window,
        a.shadow,
        b.shadow as other_shadow
    from ways as w
    inner join members as a
        on a.id = w.id
    inner join members as b
        on b.id = w.other_id
    where a.allocation_id < b.allocation_id
    and a.lower_pos <= b.upper_pos
    and b.lower_pos <= a.upper_pos
    and greatest(a.updated_at, b.updated_at) < least(a.last_seen_at, b.last_seen_at)
    and (a.restaurant_id = b.restaurant_id or not list_contains($equality::varchar[], 'restaurant_id'))
    and (a.resource_type = b.resource_type or not list_contains($equality::varchar[], 'resource_type'))
    and (a.resource_id = b.resource_id or not list_contains($equality::varchar[], 'resource_id'))
    and (a.booking_id = b.booking_id or not list_contains($equality::varchar[], 'booking_id'))
    and (a.shadow = b.shadow or not list_contains($equality::varchar[], 'shadow'))
    and (a.is_maintenance = b.is_maintenance or not list_contains($equality::varchar[], 'is_maintenance'))
    qualify row_number() over (
        partition by a.allocation_id, b.allocation_id
        order by
            least(a.last_seen_at, b.last_seen_at) desc, greatest(a.last_seen_at, b.last_seen_at) desc,
            a.updated_at desc, b.updated_at desc, a.id, b.id
    ) = 1
)

select *
from overlapping
order by allocation_id, other_allocation_id
