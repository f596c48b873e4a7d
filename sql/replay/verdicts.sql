-- What each check's evidence says under the rule in force, next to what was recorded, and the one cause for the pair.
-- Grain: check.
-- Parameters: none; rule_names has what a recorded refusal may call an overlap rule, also while another one is replayed.
with told_rivals as (
    select
        n.check_id,
        n.source,
        n.source in ('snapshot', 'reconstructed', 'other restaurant', 'same request') as counts,
        n.overlap_s,
        (n.rival_resource_type, n.rival_resource_id, n.allocation_id, n."window") as rival,
        coalesce(n.shadow, false) as is_shadow,
        n.restaurant_id is distinct from c.restaurant_id as is_other_tenant
    from rivals as n
    inner join checks as c using (check_id)
),

counted_rivals as (
    select
        check_id,
        count(distinct rival) filter (counts) as rivals,
        count(*) filter (source = 'moved before commit') as rivals_moved,
        count(*) filter (source = 'perhaps gone') as rivals_perhaps_gone,
        count(*) filter (source = 'later evidence') as rivals_committed_meanwhile,
        count(*) filter (source = 'perhaps later') as rivals_perhaps_meanwhile,
        coalesce(bool_and(overlap_s > 0 and overlap_s < 0.001 and overlap_s is not null), false) as below_a_millisecond,
        bool_and(is_shadow) filter (counts) as all_shadow,
        bool_and(is_other_tenant) filter (counts) as all_other_tenant
    from told_rivals
    group by check_id
),

counted_requests as (
    select
        check_id,
        min(lower_pos) as lower_pos,
        max(upper_pos) as upper_pos,
        bool_and(source = 'request') as restaurant_is_said,
        bool_or(source = 'inferred') as is_inferred
    from requests
    group by check_id
),

-- The rules change at few instants; between two of them they are the same for every check.
epochs as (
    select coalesce(valid_from, '-infinity'::timestamptz) as since from rules
    union
    select valid_to as since from rules where valid_to is not null
),

rules_since as (
    select
        e.since,
        string_agg(r.rule, ', ' order by r.rule) as rule,
        string_agg(r.version, ', ' order by r.rule) as rule_version,
        bool_and(r.replayable) as replayable,
        bool_and(list_contains(r.equality, 'restaurant_id')) as same_restaurant,
        bool_or(not list_contains(r.equality, 'restaurant_id') and not list_contains(r.equality, 'resource_id')) as spans_all
    from epochs as e
    left join rules as r
        on e.since >= coalesce(r.valid_from, '-infinity'::timestamptz)
        and e.since < coalesce(r.valid_to, 'infinity'::timestamptz)
    group by e.since
),

rules_at as (
    select
        c.check_id,
        r.* exclude (since)
    from checks as c
    asof join rules_since as r
        on c.checked_at >= r.since
),

-- A second insert of what the booking already holds is a unique violation, which the deployed wrapper calls an overlap.
held_already as (
    select distinct q.check_id
    from requests as q
    inner join checks as c using (check_id)
    inner join snapshot_allocations as a using (check_id, resource_type, resource_id)
    where c.sqlstate = 'P0001'
    and q.source <> 'inferred'
    and a.booking_id = c.booking_id
    and a."window" = q."window"
    and not a.shadow
),

bad_entries as (
    select
        key as check_id,
        count(*) as entries
    from quarantine
    where relation = 'snapshot allocations'
    group by key
),

evidence as (
    select
        c.check_id,
        c.recorded_verdict,
        c.sqlstate,
        c.constraint_name,
        c.message,
        r.rule,
        r.rule_version,
        coalesce(n.rivals, 0) as rivals,
        n.* exclude (check_id, rivals),
        h.check_id is not null as is_held_already,
        case
            when c.shape = 'audit' and (not c.has_snapshot or c.snapshot_problem is not null) then 'none'
            when c.shape = 'idempotency' and q.check_id is null then 'none'
            when q.is_inferred then 'inferred'
            -- Put together from captures and logs, which never say that they are complete.
            when c.shape = 'idempotency' then 'partial'
            when b.entries is not null then 'partial'
            when c.scope_window is null or not r.same_restaurant then 'partial'
            when c.scope_lower_pos <= q.lower_pos and q.upper_pos <= c.scope_upper_pos then 'complete'
            -- An empty window cannot be in anything's way, wherever the scope ends.
            when q.check_id is not null and q.lower_pos is null then 'complete'
            else 'partial'
        end as grade,
        case
            when c.snapshot_problem is not null then 'evidence_undecodable'
            when not c.has_snapshot and c.shape = 'audit' then 'evidence_missing'
            when r.rule is null then 'rule_unknown'
            when q.check_id is null and exists (
                from quarantine as z
                where z.relation = 'checks'
                and z.key = c.check_id
            ) then 'evidence_undecodable'
            when q.check_id is null then 'evidence_missing'
            when coalesce(n.rivals, 0) > 0 then null
            -- Where anybody anywhere may be a rival, no snapshot shows that nobody was.
            when r.spans_all then 'evidence_missing'
            when n.rivals_perhaps_gone > 0 then 'evidence_missing'
            -- A request for no restaurant passes, as a null does; a foreign writer's silence may mean any.
            when c.restaurant_id is null and r.same_restaurant and not q.restaurant_is_said then 'evidence_missing'
            when not r.replayable then 'rule_unknown'
            when b.entries is not null then 'evidence_undecodable'
            when c.scope_lower_pos > q.lower_pos or c.scope_upper_pos < q.upper_pos then 'evidence_missing'
        end as unknown_because
    from checks as c
    left join rules_at as r using (check_id)
    left join counted_requests as q using (check_id)
    left join counted_rivals as n using (check_id)
    left join bad_entries as b using (check_id)
    left join held_already as h using (check_id)
),

replayed as (
    select
        *,
        case
            when unknown_because is not null then 'unknown'
            when rivals > 0 then 'conflict'
            else 'clear'
        end as replayed_verdict,
        -- The deployed wrapper re-raises a violation as P0001 with the rule's name as its message.
        case
            when sqlstate is null then 'not recorded'
            when sqlstate = '23P01' and constraint_name is null then 'overlap'
            when sqlstate = '23P01' and constraint_name in (from rule_names) then 'overlap'
            when sqlstate = 'P0001' and message in (from rule_names) then 'overlap'
            when sqlstate = '23505' then 'unique_violation'
            when sqlstate = '40P01' then 'deadlock'
            when sqlstate = '40001' then 'serialization_failure'
            when sqlstate = 'P0003' then 'policy_changed'
            when sqlstate = '23503' then 'table_of_another_restaurant'
            when sqlstate = 'P0001' and message ilike 'hold %' then 'hold_not_live'
            when sqlstate in ('23514', 'P0001') and regexp_matches(message, '(?i)party|capacity') then 'party_too_large'
            else 'other_refusal'
        end as refusal,
        coalesce(constraint_name, if(sqlstate = 'P0001', message, null)) as refused_by
    from evidence
)

select
    check_id,
    replayed.rule,
    replayed.rule_version,
    replayed.replayed_verdict,
    case
        when recorded_verdict = 'refused' and refusal not in ('overlap', 'not recorded') then refusal
        when replayed.unknown_because is not null then replayed.unknown_because
        when recorded_verdict = 'confirmed' and replayed.replayed_verdict = 'clear' and rivals_moved > 0 then 'transient_overlap'
        when recorded_verdict = 'confirmed' and replayed.replayed_verdict = 'clear' then 'agreed'
        -- While another rule is replayed, what the rule in force says is at hand, too, and told first.
        when recorded_verdict = 'confirmed' and coalesce(in_force.replayed_verdict, 'conflict') = 'conflict'
            then 'confirmed_over_conflict'
        when recorded_verdict = 'confirmed' and in_force.replayed_verdict = 'unknown' then in_force.unknown_because
        when recorded_verdict = 'confirmed' and all_shadow then 'confirmed_over_shadow'
        when recorded_verdict = 'confirmed' and all_other_tenant then 'confirmed_over_other_tenant'
        when recorded_verdict = 'confirmed' then 'rule_looser_then'
        when refusal = 'not recorded' and replayed.replayed_verdict = 'conflict' then 'agreed'
        when refusal = 'not recorded' then 'reason_not_recorded'
        when replayed.replayed_verdict = 'conflict' and below_a_millisecond then 'overlap_below_a_millisecond'
        when replayed.replayed_verdict = 'conflict' then 'agreed'
        when rivals_committed_meanwhile > 0 then 'rival_committed_meanwhile'
        when rivals_perhaps_meanwhile > 0 then 'rival_perhaps_committed_meanwhile'
        when is_held_already then 'unique_violation_called_overlap'
        when refused_by is not null and not list_contains(string_split(replayed.rule, ', '), refused_by) then 'decided_under_another_rule'
        else 'rival_not_in_evidence'
    end as cause,
    replayed.unknown_because,
    replayed.grade,
    replayed.rivals
from replayed
left join stored_verdicts as in_force using (check_id)
order by check_id
