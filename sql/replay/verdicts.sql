-- What each check's evidence says under the rule in force, next to what was recorded, and the one cause for the pair.
-- Grain: check.
-- Parameters: none.
with counted_rivals as (
    select
        check_id,
        count(*) filter (source in ('snapshot', 'other restaurant')) as rivals,
        coalesce(bool_and(overlap_s > 0 and overlap_s < 0.001 and overlap_s is not null), false) as below_a_millisecond,
        count(*) filter (source = 'later evidence') as rivals_committed_meanwhile
    from rivals
    group by check_id
),

counted_requests as (
    select
        check_id,
        min(lower_pos) as lower_pos,
        max(upper_pos) as upper_pos,
        bool_and(source = 'request') as restaurant_is_said
    from requests
    group by check_id
),

rules_at as (
    select
        c.check_id,
        string_agg(r.rule, ', ' order by r.rule) as rule,
        string_agg(r.version, ', ' order by r.rule) as rule_version,
        bool_and(r.replayable) as replayable,
        bool_and(list_contains(r.equality, 'restaurant_id')) as same_restaurant
    from checks as c
    inner join rules as r
        on c.checked_at >= coalesce(r.valid_from, '-infinity'::timestamptz)
        and c.checked_at < coalesce(r.valid_to, 'infinity'::timestamptz)
    group by c.check_id
),

-- What a recorded refusal may call an overlap rule: those of the source, also while another rule is replayed.
rule_names as (
    select key as rule from raw_rules
    union
    select rule from rules
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
        coalesce(n.below_a_millisecond, false) as below_a_millisecond,
        coalesce(n.rivals_committed_meanwhile, 0) as rivals_committed_meanwhile,
        case
            when not c.has_snapshot or c.snapshot_problem is not null then 'none'
            when b.entries is not null then 'partial'
            when c.scope_window is null or not r.same_restaurant then 'partial'
            when c.scope_lower_pos <= q.lower_pos and q.upper_pos <= c.scope_upper_pos then 'complete'
            -- An empty window cannot be in anything's way, wherever the scope ends.
            when q.check_id is not null and q.lower_pos is null then 'complete'
            else 'partial'
        end as grade,
        case
            when c.snapshot_problem is not null then 'evidence_undecodable'
            when not c.has_snapshot then 'evidence_missing'
            when r.rule is null then 'rule_unknown'
            when q.check_id is null and exists (
                from quarantine as z
                where z.relation = 'checks'
                and z.key = c.check_id
            ) then 'evidence_undecodable'
            when q.check_id is null then 'evidence_missing'
            when coalesce(n.rivals, 0) > 0 then null
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
            else 'other_refusal'
        end as refusal,
        coalesce(constraint_name, if(sqlstate = 'P0001', message, null)) as refused_by
    from evidence
)

select
    check_id,
    rule,
    rule_version,
    replayed_verdict,
    case
        when recorded_verdict = 'refused' and refusal not in ('overlap', 'not recorded') then refusal
        when unknown_because is not null then unknown_because
        when recorded_verdict = 'confirmed' and replayed_verdict = 'clear' then 'agreed'
        when recorded_verdict = 'confirmed' then 'confirmed_over_conflict'
        when refusal = 'not recorded' and replayed_verdict = 'conflict' then 'agreed'
        when refusal = 'not recorded' then 'reason_not_recorded'
        when replayed_verdict = 'conflict' and below_a_millisecond then 'overlap_below_a_millisecond'
        when replayed_verdict = 'conflict' then 'agreed'
        when rivals_committed_meanwhile > 0 then 'rival_committed_meanwhile'
        when refused_by is not null and not list_contains(string_split(rule, ', '), refused_by) then 'decided_under_another_rule'
        else 'rival_not_in_evidence'
    end as cause,
    unknown_because,
    grade,
    rivals
from replayed
order by check_id
