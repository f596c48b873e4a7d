-- Where a rival that the check's own snapshot does not show as one was first seen so: in the snapshot of another check, or by a
-- capture. The instant of a check is the start of its transaction; its snapshot was taken later.
-- Grain: rival that only other evidence shows.
-- Parameters: check_id.
with sought as (
    select
        n.allocation_id,
        n."window",
        n.booking_id,
        min(v.first_seen_at) as looked_at
    from rivals as n
    inner join allocation_versions as v
        on v.restaurant_id = n.restaurant_id
        and v.allocation_id = n.allocation_id
        and v."window" = n."window"
        and v.updated_at = n.updated_at
        and not v.shadow
    where n.check_id = $check_id
    and n.source in ('later evidence', 'perhaps later')
    group by n.allocation_id, n."window", n.booking_id
),

listed as (
    select
        s.allocation_id,
        s."window",
        min(c.check_id) as check_id
    from sought as s
    inner join checks as c
        on c.checked_at = s.looked_at
        -- Its own transaction sees it before it commits.
        and c.booking_id is distinct from s.booking_id
    inner join snapshot_allocations as a
        on a.check_id = c.check_id
        and a.allocation_id = s.allocation_id
        and a."window" = s."window"
        and not a.shadow
    group by s.allocation_id, s."window"
)

select
    s.allocation_id,
    s."window",
    s.looked_at,
    l.check_id,
    if(l.check_id is null, k.capture_id, null) as capture_id
from sought as s
left join listed as l using (allocation_id, "window")
left join captures as k
    on k.captured_at = s.looked_at
where coalesce(l.check_id, k.capture_id::varchar) is not null
order by s.allocation_id, s."window"
