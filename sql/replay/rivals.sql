-- Every allocation that overlaps what a check asked for under the rule in force, and where the evidence has it from.
-- Grain: check × requested resource × rule × rival.
-- Parameters: none.
with asked as (
    select
        q.*,
        c.booking_id,
        c.restaurant_id,
        c.checked_at,
        r.rule,
        r.firm_only,
        list_contains(r.equality, 'restaurant_id') as same_restaurant,
        list_contains(r.equality, 'resource_type') as same_type,
        list_contains(r.equality, 'resource_id') as same_resource
    from requests as q
    inner join checks as c using (check_id)
    inner join rules as r
        on c.checked_at >= coalesce(r.valid_from, '-infinity'::timestamptz)
        and c.checked_at < coalesce(r.valid_to, 'infinity'::timestamptz)
    where r.replayable
),

-- Seen by the check itself, in its own snapshot.
in_snapshot as (
    select
        q.check_id, q.resource_type, q.resource_id, q.rule,
        q."window" as asked_window, q.window_lower as asked_lower, q.window_upper as asked_upper,
        q.lower_pos as asked_lower_pos, q.upper_pos as asked_upper_pos,
        a.allocation_id, a.booking_id, a.restaurant_id,
        a."window", a.window_lower, a.window_upper, a.lower_pos, a.upper_pos,
        a.resource_type as rival_resource_type, a.resource_id as rival_resource_id,
        a.shadow, a.is_maintenance, a.created_at, a.updated_at,
        'snapshot' as source
    from asked as q
    inner join snapshot_allocations as a
        on a.check_id = q.check_id
        -- Two windows overlap when neither begins after the other has ended; an empty one has no place and never does.
        and a.lower_pos <= q.upper_pos
        and q.lower_pos <= a.upper_pos
        -- Any null in a compared column passes, as in PostgreSQL.
        and (not q.same_restaurant or a.restaurant_id = q.restaurant_id)
        and (not q.same_type or a.resource_type = q.resource_type)
        and (not q.same_resource or a.resource_id = q.resource_id)
        and (not q.firm_only or not a.shadow)
    -- The booking's own row on this resource is what the request replaces, not a rival.
    where not coalesce(
        a.booking_id = q.booking_id and a.resource_type = q.resource_type and a.resource_id = q.resource_id, false
    )
),

-- A rule that compares no restaurants looks beyond the snapshot. A version existed unchanged from its last update
-- until it was last seen; within that span it certainly was there.
elsewhere as (
    select
        q.check_id, q.resource_type, q.resource_id, q.rule,
        q."window" as asked_window, q.window_lower as asked_lower, q.window_upper as asked_upper,
        q.lower_pos as asked_lower_pos, q.upper_pos as asked_upper_pos,
        a.allocation_id, a.booking_id, a.restaurant_id,
        a."window", a.window_lower, a.window_upper, a.lower_pos, a.upper_pos,
        a.resource_type as rival_resource_type, a.resource_id as rival_resource_id,
        a.shadow, a.is_maintenance, a.created_at, a.updated_at,
        'other restaurant' as source
    from asked as q
    inner join allocation_versions as a
        on a.resource_id = q.resource_id
        and a.restaurant_id <> q.restaurant_id
        and a.lower_pos <= q.upper_pos
        and q.lower_pos <= a.upper_pos
        and (not q.same_type or a.resource_type = q.resource_type)
        and (not q.firm_only or not a.shadow)
        and q.checked_at between a.updated_at and a.last_seen_at
    anti join in_snapshot as s
        on s.check_id = q.check_id
        and s.rule = q.rule
        and s.resource_id = q.resource_id
        and s.allocation_id = a.allocation_id
    where not q.same_restaurant
    and q.same_resource
    and not coalesce(a.booking_id = q.booking_id and a.resource_type = q.resource_type, false)
),

-- Named by PostgreSQL in the recorded error, yet firm nowhere in the check's own snapshot: it was committed while the
-- check waited. The same key may have been held before or again later, by another: no transaction here stays open for
-- an hour, no check waits for a minute, and what earlier evidence had already seen was no news to this check. A check's
-- instant is the start of its transaction: which of two snapshots is the later, checks close to each other cannot tell.
named as (
    select
        q.check_id, q.resource_type, q.resource_id, q.rule,
        q."window" as asked_window, q.window_lower as asked_lower, q.window_upper as asked_upper,
        q.lower_pos as asked_lower_pos, q.upper_pos as asked_upper_pos,
        v.allocation_id, v.booking_id, coalesce(v.restaurant_id, n.restaurant_id) as restaurant_id,
        w."window", w.window_lower, w.window_upper, w.lower_pos, w.upper_pos,
        n.resource_type as rival_resource_type, n.resource_id as rival_resource_id,
        v.shadow, v.is_maintenance, v.created_at, v.updated_at,
        if(v.allocation_id is null, 'named by PostgreSQL', 'later evidence') as source
    from asked as q
    inner join named_rivals as n
        on n.check_id = q.check_id
        and n.resource_type = q.resource_type
        and n.resource_id = q.resource_id
    inner join windows as w
        on w.window_text = n.window_text
        and w.lower_pos <= q.upper_pos
        and q.lower_pos <= w.upper_pos
    left join allocation_versions as v
        on v.resource_id = n.resource_id
        and v.resource_type = n.resource_type
        and v."window" = w."window"
        and v.restaurant_id = coalesce(n.restaurant_id, v.restaurant_id)
        and not v.shadow
        and v.booking_id is distinct from q.booking_id
        and v.updated_at between q.checked_at - interval 1 hour and q.checked_at + interval 1 minute
        and v.first_seen_at > q.checked_at - interval 1 minute
    anti join in_snapshot as s
        on s.check_id = q.check_id
        and s.rule = q.rule
        and s.rival_resource_id = n.resource_id
        and s."window" = w."window"
    qualify row_number() over (
        partition by q.check_id, q.resource_type, q.resource_id, q.rule
        order by abs(epoch_us(v.updated_at) - epoch_us(q.checked_at)) nulls last, v.last_seen_at desc, v.allocation_id
    ) = 1
),

found as (
    from in_snapshot
    union all
    from elsewhere
    union all
    from named
)

select
    check_id, resource_type, resource_id, rule, allocation_id, booking_id, restaurant_id,
    case
        when is_maintenance then 'maintenance'
        when rival_resource_type = 'merge_group' then 'merge_group'
        when shadow or rival_resource_type = 'hold' then 'hold'
        else 'booking'
    end as kind,
    "window", window_lower, window_upper,
    shadow, created_at, updated_at,
    if(lower_pos >= asked_lower_pos, window_lower, asked_lower) as overlap_lower,
    if(upper_pos <= asked_upper_pos, window_upper, asked_upper) as overlap_upper,
    split_part(if(lower_pos >= asked_lower_pos, "window", asked_window), ',', 1)
    || ','
    || split_part(if(upper_pos <= asked_upper_pos, "window", asked_window), ',', 2) as overlap,
    (epoch_us(overlap_upper) - epoch_us(overlap_lower)) / 1000000 as overlap_s,
    source
from found
order by check_id, resource_type, resource_id, rule, window_lower, "window", allocation_id
