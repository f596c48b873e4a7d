-- Every state in which any evidence has seen an allocation, with when it was first and last seen so.
-- Grain: allocation × content.
-- Parameters: none.
with listed as (
    select
        l.entry_no,
        min(c.checked_at) as first_seen_at,
        max(c.checked_at) as last_seen_at
    from snapshot_listing as l
    inner join checks as c using (check_no)
    group by l.entry_no
),

seen as (
    select
        e.* exclude (entry_no, problem, raw),
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
        first_seen_at as last_seen_at,
        a.source
    from (
        select * exclude (created_by), null as archived_at, 'allocations' as source from raw_allocations
        union all by name
        select * exclude (created_by), 'archive' as source from raw_allocations_archive
    ) as a
    inner join captures as k using (capture_id)
    left join windows as w using (window_text)
    where w.problem is null
)

select
    allocation_id, booking_id, restaurant_id, resource_type, resource_id,
    "window", window_lower, window_upper, lower_inc, upper_inc, lower_pos, upper_pos,
    shadow, is_maintenance, created_at, updated_at,
    min(first_seen_at) as first_seen_at,
    max(last_seen_at) as last_seen_at,
    list_sort(list_distinct(list(source))) as sources
from seen
group by all
order by restaurant_id, window_lower, allocation_id, updated_at
