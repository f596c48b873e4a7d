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
        ) as key,
        lower_pos,
        upper_pos
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
--
-- Where each window begins after the one listed before it has ended, all are apart. The store lists them in order, so few
-- keys are suspect: those whose windows are not apart, or only not in order.
suspects as materialized (
    select
        id,
        key & 18446744069414584320
        | least(greatest(floor(lower_pos::double / 4000000), 0), 4294967295)::ubigint as start_key,
        least(greatest(floor(upper_pos::double / 4000000), 0), 4294967295)::uinteger as end_s
    from rows
    where key in (
        select key
        from (
            select
                key,
                unnest(windows) as this,
                unnest(windows[2:]) as next
            from (
                select
                    key,
                    list(
                        least(greatest(floor(lower_pos::double / 4000000), 0), 4294967295)::ubigint << 32
                        | least(greatest(floor(upper_pos::double / 4000000), 0), 4294967295)::ubigint
                    ) as windows
                from rows
                group by key
            )
        )
        where next >> 32 <= this & 4294967295
    )
),

-- One number sorts by key, then start; all columns are in the order, and the window is over nothing, so that rows stream.
-- Of two that overlap, the earlier overlaps its next neighbour too, for that one begins no later than the other of the two.
earlier as materialized (
    select
        id,
        start_key,
        end_key,
        ceil(log2((end_key - start_key + 1)::double))::utinyint as level
    from (
        select
            id,
            start_key,
            start_key & 18446744069414584320 | end_s as end_key,
            lead(start_key) over () as next_start_key
        from (select start_key, end_s, id from suspects order by start_key, end_s, id)
    )
    where next_start_key <= end_key
),

-- At its level cells are no shorter than a window is: it lies in at most two, and what it overlaps begins in one of them.
cells as (
    select
        *,
        unnest(list_distinct([start_key >> level, end_key >> level])) as cell
    from earlier
),

later as (
    select
        s.id,
        s.start_key,
        l.level,
        s.start_key >> l.level as cell
    from suspects as s
    cross join (select distinct level from earlier) as l
    where s.start_key >> 32 in (select start_key >> 32 from earlier)
),

near as materialized (
    select
        e.id as earlier_id,
        l.id as later_id
    from later as l
    inner join cells as e
        on e.level = l.level
        and e.cell = l.cell
        and l.start_key between e.start_key and e.end_key
        and l.id <> e.id
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
    union
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
