-- Rivals that the evidence they are said to be from does not hold, with that booking, resource and window.
-- Grain: check × rival.
-- Parameters: none.
select
    r.check_id,
    r.allocation_id,
    r.source
from rivals as r
anti join (
    select
        check_id, allocation_id, resource_type, resource_id, booking_id, "window",
        unnest(['snapshot', 'moved before commit']) as source
    from snapshot_allocations

    union all

    select q.check_id, null, q.resource_type, q.resource_id, c.booking_id, q."window", 'same request' as source
    from requests as q
    inner join checks as c using (check_id)

    union all

    select
        r.check_id, a.allocation_id, a.resource_type, a.resource_id, a.booking_id, a."window",
        unnest(['later evidence', 'perhaps later', 'other restaurant']) as source
    from allocation_versions as a
    inner join rivals as r using (allocation_id)

    union all

    select
        check_id, allocation_id, resource_type, resource_id, booking_id, "window",
        if(presence = 'certain', 'reconstructed', 'perhaps gone') as source
    from reconstructed

    union all

    select n.check_id, null, n.resource_type, n.resource_id, null, w."window", 'named by PostgreSQL' as source
    from named_rivals as n
    inner join windows as w using (window_text)
) as e
    on e.check_id = r.check_id
    and e.source = r.source
    and e.resource_id is not distinct from r.rival_resource_id
    and e.allocation_id is not distinct from r.allocation_id
    and e.booking_id is not distinct from r.booking_id
    and e."window" = r."window"
order by r.check_id, r.allocation_id
