-- One check with both verdicts, its restaurant, the rule it is judged by and the capture it was read in.
-- Grain: the check, or no row.
-- Parameters: check_id.
select
    c.*,
    v.replayed_verdict,
    v.cause,
    v.unknown_because,
    v.grade,
    r.rule,
    r.version as rule_version,
    r.definition as rule_definition,
    r.equality,
    r.rule in (select n.rule from rivals as n where n.check_id = $check_id) as forbids,
    r.valid_from,
    r.valid_to,
    p.name as restaurant_name,
    p.timezone,
    k.captured_at,
    k.tenant
from checks as c
inner join verdicts as v using (check_id)
left join rules as r
    on list_contains(string_split(v.rule, ', '), r.rule)
    and c.checked_at >= coalesce(r.valid_from, '-infinity'::timestamptz)
    and c.checked_at < coalesce(r.valid_to, 'infinity'::timestamptz)
left join restaurants as p using (restaurant_id)
left join captures as k using (capture_id)
where c.check_id = $check_id
-- Where two rules were in force at once, the one that forbids it is told, and of two the one that the error names.
order by forbids desc, r.rule = c.constraint_name desc nulls last, r.rule
limit 1
