-- Every allocation that overlaps what a check asked for under the rule replayed, and where the evidence has it from.
-- Grain: check × requested resource × rule × rival.
-- Parameters: none; rule_names has what a recorded refusal may call an overlap rule.
with asked as materialized (
    select
        row_number() over () as asked_no,
        q.* exclude (source),
        c.check_no,
        c.booking_id,
        c.restaurant_id,
        c.checked_at,
        c.recorded_verdict,
        c.shape = 'idempotency' and c.skew_s is null as is_of_unknown_instant,
        -- An overlap that was recorded without the key it met, as the deployed wrapper does.
        c.sqlstate = '23P01' or (c.sqlstate = 'P0001' and c.message in (from rule_names))
            as refused_by_nobody_named,
        -- The key that an error names is one that the rule compared which the error names, if that one was in force.
        c.constraint_name is null or r.rule = c.constraint_name or c.constraint_name not in (
            select o.rule
            from rules as o
            where c.checked_at >= coalesce(o.valid_from, '-infinity'::timestamptz)
            and c.checked_at < coalesce(o.valid_to, 'infinity'::timestamptz)
        ) as is_named_by_this,
        -- Whether the own snapshot says that it shows all that was committed.
        c.has_snapshot
            and c.snapshot_problem is null
            and coalesce(c.scope_lower_pos <= q.lower_pos and q.upper_pos <= c.scope_upper_pos, false) as is_covered,
        r.rule,
        r.firm_only,
        list_contains(r.equality, 'restaurant_id') as same_restaurant,
        list_contains(r.equality, 'resource_type') as same_type,
        list_contains(r.equality, 'resource_id') as same_resource,
        list_contains(r.equality, 'shadow') as same_shadow
    from requests as q
    inner join checks as c using (check_id)
    inner join rules as r
        on c.checked_at >= coalesce(r.valid_from, '-infinity'::timestamptz)
        and c.checked_at < coalesce(r.valid_to, 'infinity'::timestamptz)
    where r.replayable
),

-- Seen by the check itself, in its own snapshot: found by the few columns that are compared, of millions of entries listed.
met as materialized (
    select
        q.asked_no,
        a.entry_no
    from asked as q
    inner join snapshot_listing as l using (check_no)
    inner join snapshot_entries as a using (entry_no)
    where a.problem is null
    -- Two windows overlap when what begins last begins before what ends first has ended; an empty one has no place and never
    -- does. Said so, and not bound by bound, as a planner who sees two inequalities joins by them first.
    and a.lower_pos is not null
    and q.lower_pos is not null
    and greatest(a.lower_pos, q.lower_pos) <= least(a.upper_pos, q.upper_pos)
    -- Any null in a compared column passes, as in PostgreSQL.
    and (not q.same_restaurant or a.restaurant_id = q.restaurant_id)
    and (not q.same_type or a.resource_type = q.resource_type)
    and (not q.same_resource or a.resource_id = q.resource_id)
    and (not q.same_shadow or not a.shadow)
    and (not q.firm_only or not a.shadow)
),

listed as materialized (
    select
        q.*,
        a
    from met
    inner join asked as q using (asked_no)
    inner join snapshot_entries as a using (entry_no)
),

-- What the check's own transaction moved out of the way by commit was in nobody's way: it was moved before the insert, or the
-- rule was deferred. The two rows share the transaction's instant.
moved as (
    select q.check_id, q.resource_type, q.resource_id, q.rule, q.a.allocation_id as allocation_id
    from listed as q
    inner join allocation_versions as v
        on v.allocation_id = q.a.allocation_id
        and v.updated_at = q.checked_at
        and v.updated_at > q.a.updated_at
    where q.recorded_verdict = 'confirmed'
    group by all
    having not bool_or(coalesce(
        v.lower_pos <= q.upper_pos
        and q.lower_pos <= v.upper_pos
        and (not q.same_restaurant or v.restaurant_id = q.restaurant_id)
        and (not q.same_type or v.resource_type = q.resource_type)
        and (not q.same_resource or v.resource_id = q.resource_id)
        and (not q.same_shadow or not v.shadow)
        and (not q.firm_only or not v.shadow),
        false
    ))
),

in_snapshot as materialized (
    select
        q.* exclude (a),
        q.a.allocation_id, q.a.booking_id as rival_booking_id, q.a.restaurant_id as rival_restaurant_id,
        q.a.resource_type as rival_resource_type, q.a.resource_id as rival_resource_id,
        q.a."window" as rival_window, q.a.window_lower as rival_lower, q.a.window_upper as rival_upper,
        q.a.lower_pos as rival_lower_pos, q.a.upper_pos as rival_upper_pos,
        q.a.shadow, q.a.is_maintenance, q.a.created_at, q.a.updated_at,
        if(m.check_id is null, 'snapshot', 'moved before commit') as source
    from listed as q
    -- The booking's own rows on what it asks for are what the request replaces, not rivals.
    anti join requests as own
        on own.check_id = q.check_id
        and own.resource_type = q.a.resource_type
        and own.resource_id = q.a.resource_id
        and q.a.booking_id = q.booking_id
    left join moved as m
        on m.check_id = q.check_id
        and m.rule = q.rule
        and m.resource_type is not distinct from q.resource_type
        and m.resource_id is not distinct from q.resource_id
        and m.allocation_id = q.a.allocation_id
),

-- Asked for in the same breath: the rows of one statement are rivals of each other, too.
asked_together as (
    select
        q.*,
        null as allocation_id, o.booking_id as rival_booking_id, o.restaurant_id as rival_restaurant_id,
        o.resource_type as rival_resource_type, o.resource_id as rival_resource_id,
        o."window" as rival_window, o.window_lower as rival_lower, o.window_upper as rival_upper,
        o.lower_pos as rival_lower_pos, o.upper_pos as rival_upper_pos,
        false as shadow, false as is_maintenance, null::timestamptz as created_at, null::timestamptz as updated_at,
        'same request' as source
    from asked as q
    inner join asked as o
        on o.check_id = q.check_id
        and o.rule = q.rule
        and o.lower_pos <= q.upper_pos
        and q.lower_pos <= o.upper_pos
        and (o.resource_type is distinct from q.resource_type or o.resource_id is distinct from q.resource_id)
        and (not q.same_restaurant or o.restaurant_id = q.restaurant_id)
        and (not q.same_type or o.resource_type = q.resource_type)
        and (not q.same_resource or o.resource_id = q.resource_id)
),

-- A rule that compares no restaurants looks beyond the snapshot. A version existed unchanged from its last update
-- until it was last seen; within that span it certainly was there.
elsewhere as (
    select
        q.*,
        a.allocation_id, a.booking_id as rival_booking_id, a.restaurant_id as rival_restaurant_id,
        a.resource_type as rival_resource_type, a.resource_id as rival_resource_id,
        a."window" as rival_window, a.window_lower as rival_lower, a.window_upper as rival_upper,
        a.lower_pos as rival_lower_pos, a.upper_pos as rival_upper_pos,
        a.shadow, a.is_maintenance, a.created_at, a.updated_at,
        'other restaurant' as source
    from asked as q
    inner join allocation_versions as a
        on a.resource_id = q.resource_id
        and a.restaurant_id <> q.restaurant_id
        and a.lower_pos <= q.upper_pos
        and q.lower_pos <= a.upper_pos
        and (not q.same_type or a.resource_type = q.resource_type)
        and (not q.same_shadow or not a.shadow)
        and (not q.firm_only or not a.shadow)
        and q.checked_at between a.updated_at and a.last_seen_at
        -- A log tells what was given, not what became of it; and by a clock that may be wrong nothing is certain.
        and a.sources <> ['log']
        and not q.is_of_unknown_instant
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
        q.*,
        v.allocation_id, v.booking_id as rival_booking_id, coalesce(v.restaurant_id, n.restaurant_id) as rival_restaurant_id,
        n.resource_type as rival_resource_type, n.resource_id as rival_resource_id,
        w."window" as rival_window, w.window_lower as rival_lower, w.window_upper as rival_upper,
        w.lower_pos as rival_lower_pos, w.upper_pos as rival_upper_pos,
        v.shadow, v.is_maintenance, v.created_at, v.updated_at,
        case
            when v.allocation_id is null then 'named by PostgreSQL'
            when q.is_covered or v.updated_at >= q.checked_at - interval 1 hour then 'later evidence'
            else 'reconstructed'
        end as source
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
        and (
            v.updated_at between q.checked_at - interval 1 hour and q.checked_at + interval 1 minute
            and v.first_seen_at > q.checked_at - interval 1 minute
            -- Where no snapshot claims to show everything, what stood before and was there later stood then.
            or not q.is_covered and q.checked_at between v.updated_at and v.last_seen_at
        )
    anti join (
        select check_id, rival_resource_id, rival_window from in_snapshot
        union all
        select check_id, rival_resource_id, rival_window from elsewhere
    ) as s
        on s.check_id = q.check_id
        and s.rival_resource_id = n.resource_id
        and s.rival_window = w."window"
    where q.is_named_by_this
    and (not q.same_restaurant or coalesce(n.restaurant_id, v.restaurant_id) = q.restaurant_id)
    qualify row_number() over (
        partition by q.check_id, q.resource_type, q.resource_id, q.rule
        order by abs(epoch_us(v.updated_at) - epoch_us(q.checked_at)) nulls last, v.last_seen_at desc, v.allocation_id
    ) = 1
),

-- Where no key is named: what overlaps, was made firm or moved there within a minute, and is not in the snapshot. Whether it
-- was there in time nobody recorded.
perhaps as (
    select
        q.*,
        v.allocation_id, v.booking_id as rival_booking_id, v.restaurant_id as rival_restaurant_id,
        v.resource_type as rival_resource_type, v.resource_id as rival_resource_id,
        v."window" as rival_window, v.window_lower as rival_lower, v.window_upper as rival_upper,
        v.lower_pos as rival_lower_pos, v.upper_pos as rival_upper_pos,
        v.shadow, v.is_maintenance, v.created_at, v.updated_at,
        'perhaps later' as source
    from asked as q
    inner join allocation_versions as v
        on v.resource_id = q.resource_id
        and v.resource_type = q.resource_type
        and v.lower_pos <= q.upper_pos
        and q.lower_pos <= v.upper_pos
        and (not q.same_restaurant or v.restaurant_id = q.restaurant_id)
        and not v.shadow
        and v.booking_id is distinct from q.booking_id
        and v.updated_at between q.checked_at - interval 1 minute and q.checked_at + interval 1 minute
    anti join named_rivals as n
        on n.check_id = q.check_id
    anti join in_snapshot as s
        on s.check_id = q.check_id
        and s.rule = q.rule
    where q.recorded_verdict = 'refused'
    and q.refused_by_nobody_named
),

-- Without a snapshot: what captures and logs show of that instant. The constraint did accept the check, so that what nobody
-- saw go, or saw by another clock, is no rival that counts.
reconstructed_rivals as (
    select
        q.*,
        a.allocation_id, a.booking_id as rival_booking_id, a.restaurant_id as rival_restaurant_id,
        a.resource_type as rival_resource_type, a.resource_id as rival_resource_id,
        a."window" as rival_window, a.window_lower as rival_lower, a.window_upper as rival_upper,
        a.lower_pos as rival_lower_pos, a.upper_pos as rival_upper_pos,
        a.shadow, a.is_maintenance, a.created_at, a.updated_at,
        if(a.presence = 'certain', 'reconstructed', 'perhaps gone') as source
    from asked as q
    inner join reconstructed as a
        on a.check_id = q.check_id
        and a.lower_pos <= q.upper_pos
        and q.lower_pos <= a.upper_pos
        and (not q.same_type or a.resource_type = q.resource_type)
        and (not q.same_resource or a.resource_id = q.resource_id)
        and (not q.same_shadow or not a.shadow)
        and (not q.firm_only or not a.shadow)
    where a.booking_id is distinct from q.booking_id
    qualify row_number() over (
        partition by q.check_id, q.resource_type, q.resource_id, q.rule, a.allocation_id
        order by a.presence, a.updated_at desc
    ) = 1
),

found as (
    from in_snapshot
    union all by name
    from reconstructed_rivals
    union all by name
    from asked_together
    union all by name
    from elsewhere
    union all by name
    from named
    union all by name
    from perhaps
)

select
    check_id, resource_type, resource_id, rule, allocation_id,
    rival_booking_id as booking_id,
    rival_restaurant_id as restaurant_id,
    rival_resource_type,
    rival_resource_id,
    case
        when source = 'same request' then 'request'
        when is_maintenance then 'maintenance'
        when rival_resource_type = 'merge_group' then 'merge_group'
        when shadow or rival_resource_type = 'hold' then 'hold'
        else 'booking'
    end as kind,
    rival_window as "window",
    rival_lower as window_lower,
    rival_upper as window_upper,
    shadow, created_at, updated_at,
    if(rival_lower_pos >= lower_pos, rival_lower, window_lower) as overlap_lower,
    if(rival_upper_pos <= upper_pos, rival_upper, window_upper) as overlap_upper,
    split_part(if(rival_lower_pos >= lower_pos, rival_window, found."window"), ',', 1)
    || ','
    || split_part(if(rival_upper_pos <= upper_pos, rival_window, found."window"), ',', 2) as overlap,
    -- Beyond all instants lie infinity and no bound at all: from there to anywhere there are no seconds.
    case
        when abs(greatest(rival_lower_pos, lower_pos)) < 10000000000000000000000000000
        and abs(least(rival_upper_pos, upper_pos)) < 10000000000000000000000000000
            then (least(rival_upper_pos, upper_pos) - greatest(rival_lower_pos, lower_pos) + 2) // 4 / 1000000
    end as overlap_s,
    source
from found
order by check_id, resource_type, resource_id, rule, window_lower, "window", allocation_id
