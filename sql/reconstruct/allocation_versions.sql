-- Every state in which any evidence has seen an allocation, with when it was first and last seen so.
-- Grain: allocation × content.
-- Parameters: none.
with looked as (
    select
        k.capture_id,
        k.captured_at
    from captures as k
    where k.capture_id in (
        select capture_id from capture_relations where relation = 'allocations' and rows_read is not null
    )
    -- After a capture that found nothing new in any relation nothing is derived: no check is so late that it would matter.
    and k.capture_id in (
        select capture_id from capture_relations where rows_new + rows_changed + rows_vanished > 0
    )
),

ended as (
    -- The capture that no longer found a version: which found another, or none. Most versions stand.
    select
        a.key,
        a.capture_id,
        least(min(o.capture_id), min(v.capture_id)) as ended_in
    from raw_allocations as a
    left join raw_allocations as o
        on o.key = a.key
        and o.capture_id > a.capture_id
    left join vanished as v
        on v.relation = 'allocations'
        and v.key = a.key
        and v.capture_id > a.capture_id
    where a.key in (
        select key from raw_allocations where capture_id > (select min(capture_id) from raw_allocations)
        union all
        select key from vanished where relation = 'allocations'
    )
    group by a.key, a.capture_id
),

stood as (
    select
        e.key,
        e.capture_id,
        max(l.captured_at) as last_looked_at
    from ended as e
    left join looked as l
        on l.capture_id < coalesce(e.ended_in, 2147483647)
    group by e.key, e.capture_id
),

listed as (
    select
        l.entry_no,
        min(c.checked_at) as first_seen_at,
        max(c.checked_at) as last_seen_at
    from snapshot_listing as l
    inner join checks as c using (check_no)
    group by l.entry_no
),

-- Read twice, and kept by nobody: of ten million rows it takes gigabytes, for logs that mostly are not there.
seen as not materialized (
    select
        e.* exclude (entry_no, problem, entry_bytes, raw),
        l.first_seen_at,
        l.last_seen_at,
        'snapshot' as source
    from snapshot_entries as e
    inner join listed as l using (entry_no)
    where e.problem is null

    union all

    select
        a.key as allocation_id, a.booking_id, a.restaurant_id, a.resource_type, a.resource_id,
        w."window", w.window_lower, w.window_upper, w.lower_inc, w.upper_inc, w.lower_pos, w.upper_pos,
        try_cast(a.shadow as boolean) as shadow,
        try_cast(a.is_maintenance as boolean) as is_maintenance,
        try_cast(a.created_at as timestamptz) as created_at,
        try_cast(a.updated_at as timestamptz) as updated_at,
        -- An archived row stood so until it was moved there, whenever the archive was read.
        coalesce(try_cast(a.archived_at as timestamptz), k.captured_at) as first_seen_at,
        -- A capture that finds a row as it was adds no version, and has seen it all the same.
        if(a.source = 'archive', first_seen_at, greatest(
            k.captured_at,
            if(e.key is null, (select max(captured_at) from looked), e.last_looked_at)
        )) as last_seen_at,
        a.source
    from (
        select * exclude (created_by), null as archived_at, 'allocations' as source from raw_allocations
        union all by name
        select * exclude (created_by), 'archive' as source from raw_allocations_archive
    ) as a
    inner join captures as k using (capture_id)
    left join stood as e
        on a.source = 'allocations'
        and e.key = a.key
        and e.capture_id = a.capture_id
    left join windows as w using (window_text)
    where w.problem is null
),

-- One entry each where several say the same.
assigned as (
    select distinct
        l.booking_id, l.restaurant_id, l.table_id, l.logged_at,
        w."window", w.window_lower, w.window_upper, w.lower_inc, w.upper_inc, w.lower_pos, w.upper_pos
    from logged as l
    inner join windows as w using (window_text)
    where l.event in ('assigned', 'confirmed')
    and l.table_id is not null
    and l.logged_at is not null
    and w.problem is null
),

-- What a log says a booking was given, and when the logs next say something of that booking's tables.
followed as (
    select
        a.*,
        coalesce(c.key, a.booking_id || '/' || a.table_id) as allocation_id,
        (
            select min(n.logged_at)
            from logged as n
            where n.booking_id = a.booking_id
            and n.logged_at > a.logged_at
            and (n.event = 'unassigned' or n.window_text is not null)
        ) as told_otherwise_at
    from assigned as a
    left join (
        select booking_id, resource_id, max(key) as key
        from (
            select key, booking_id, resource_type, resource_id from raw_allocations
            union all
            select key, booking_id, resource_type, resource_id from raw_allocations_archive
        )
        where resource_type = 'table'
        and booking_id in (select booking_id from assigned)
        group by booking_id, resource_id
    ) as c
        on c.booking_id = a.booking_id
        and c.resource_id = a.table_id
),

-- Only what is said to be taken back is known to have stood until then.
told as (
    select
        f.*,
        exists (
            from logged as n
            where n.booking_id = f.booking_id
            and n.logged_at = f.told_otherwise_at
            and n.event = 'unassigned'
            and coalesce(n.table_id = f.table_id, true)
        ) as is_taken_back
    from followed as f
),

every as (
    from seen

    union all by name

    select
        t.allocation_id, t.booking_id, t.restaurant_id, 'table' as resource_type, t.table_id as resource_id,
        t."window", t.window_lower, t.window_upper, t.lower_inc, t.upper_inc, t.lower_pos, t.upper_pos,
        false as shadow,
        false as is_maintenance,
        t.logged_at as updated_at,
        t.logged_at as first_seen_at,
        if(t.is_taken_back, t.told_otherwise_at, t.logged_at) as last_seen_at,
        'log' as source
    from told as t
    -- Where the row itself shows the same, from no later on, the log adds nothing.
    anti join seen as s
        on s.allocation_id = t.allocation_id
        and s."window" = t."window"
        and not s.shadow
        and s.updated_at <= t.logged_at + interval 1 second
)

select
    allocation_id, booking_id, restaurant_id, resource_type, resource_id,
    "window", window_lower, window_upper, lower_inc, upper_inc, lower_pos, upper_pos,
    shadow, is_maintenance, created_at, updated_at,
    min(first_seen_at) as first_seen_at,
    max(last_seen_at) as last_seen_at,
    -- A list, not a flag for each: beside flags DuckDB 2.0 does not spill groups as wide as these.
    list_sort(list_distinct(list(source))) as sources
from every
group by all
order by restaurant_id, window_lower, allocation_id, updated_at
