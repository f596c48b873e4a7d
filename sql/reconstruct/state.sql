-- Who held what at one restaurant at one instant: certain between a version's last change and its last sighting,
-- possible after that until its next known change, or until a snapshot that covers its window is without it. An allocation
-- that nobody saw before it was changed is possible since it was made, or since the last such snapshot.
-- Grain: allocation.
-- Parameters: restaurant_id, at.
with complete as (
    -- Snapshots that were read whole, with what they are complete for.
    select
        checked_at,
        scope_lower_pos,
        scope_upper_pos
    from checks as c
    where restaurant_id = $restaurant_id
    and snapshot_problem is null
    and scope_lower_pos is not null
    and snapshot_allocations = (select count(*) from snapshot_allocations as a where a.check_id = c.check_id)
),

versions as (
    select
        v.*,
        lead(updated_at) over (partition by allocation_id order by updated_at, first_seen_at) as next_updated_at,
        -- A check's instant is the start of its transaction: which of two snapshots is the later, those within a minute of each
        -- other cannot tell.
        (
            select min(c.checked_at)
            from complete as c
            where c.checked_at > v.last_seen_at + interval 1 minute
            and c.scope_lower_pos <= v.lower_pos
            and v.upper_pos <= c.scope_upper_pos
        ) as absent_at,
        -- There it was, but where it stood then only its first version could tell.
        if(
            row_number() over (partition by allocation_id order by updated_at, first_seen_at) = 1
            and created_at < updated_at,
            greatest(created_at, (
                select max(c.checked_at)
                from complete as c
                where c.checked_at < v.updated_at - interval 1 minute
                and c.scope_lower_pos <= v.lower_pos
                and v.upper_pos <= c.scope_upper_pos
            )),
            updated_at
        ) as possible_at
    from (
        -- Of when it was changed, where nobody wrote that down, the first sighting is the latest bound.
        select * replace (coalesce(updated_at, first_seen_at) as updated_at)
        from allocation_versions
        where restaurant_id = $restaurant_id
    ) as v
),

missed as (
    select
        v.key as allocation_id,
        c.captured_at as missed_at
    from vanished as v
    inner join captures as c using (capture_id)
    where v.relation = 'allocations'

    union all

    select
        key as allocation_id,
        try_cast(archived_at as timestamptz) as missed_at
    from raw_allocations_archive

    union all

    select
        v.allocation_id,
        l.logged_at as missed_at
    from versions as v
    inner join logged as l
        on l.booking_id = v.booking_id
        and l.event = 'unassigned'
        and coalesce(l.table_id = v.resource_id, true)
)

select
    v.allocation_id,
    v.booking_id,
    v.resource_type,
    v.resource_id,
    v."window",
    v.shadow,
    if($at between v.updated_at and v.last_seen_at, 'certain', 'possible') as presence,
    if($at < v.updated_at, v.possible_at, v.updated_at) as since,
    if($at < v.updated_at, v.updated_at, least(v.next_updated_at, v.absent_at, g.missed_at)) as until,
    array_to_string(v.sources, ', ') as source
from versions as v
asof left join missed as g
    on g.allocation_id = v.allocation_id
    -- What was seen later was not gone.
    and g.missed_at >= greatest(v.updated_at, v.last_seen_at)
where v.possible_at <= $at
and $at < coalesce(least(v.next_updated_at, v.absent_at, g.missed_at), 'infinity'::timestamptz)
order by v.resource_type, v.resource_id, v.window_lower, v.allocation_id
