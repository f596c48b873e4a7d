-- Who held what at one restaurant at one instant: certain between a version's last change and its last sighting,
-- possible after that until its next known change.
-- Grain: allocation.
-- Parameters: restaurant_id, at.
with versions as (
    select
        *,
        lead(updated_at) over (partition by allocation_id order by updated_at, first_seen_at) as next_updated_at
    from allocation_versions
    where restaurant_id = $restaurant_id
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
),

gone as (
    select
        allocation_id,
        min(missed_at) as missed_at
    from missed
    group by allocation_id
)

select
    v.allocation_id,
    v.booking_id,
    v.resource_type,
    v.resource_id,
    v."window",
    v.shadow,
    if($at <= v.last_seen_at, 'certain', 'possible') as presence,
    v.updated_at as since,
    coalesce(v.next_updated_at, g.missed_at) as until,
    array_to_string(v.sources, ', ') as source
from versions as v
left join gone as g using (allocation_id)
where v.updated_at <= $at
and $at < coalesce(v.next_updated_at, g.missed_at, 'infinity'::timestamptz)
order by v.resource_type, v.resource_id, v.window_lower, v.allocation_id
