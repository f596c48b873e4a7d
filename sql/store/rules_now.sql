-- What the newest capture found of the overlap rules: each with the capture since which it reads as it does, or that it is gone.
-- Grain: rule.
-- Parameters: capture_id: the newest capture.
select
    r.key as rule,
    max(r.capture_id) as since_capture,
    count(*) > 1 as was_otherwise,
    bool_or(r.key in (
        select key from vanished where relation = 'rules' and capture_id = $capture_id
    )) as is_gone
from raw_rules as r
where r.key not in (
    select v.key
    from vanished as v
    where v.relation = 'rules'
    and v.capture_id < $capture_id
    and v.capture_id >= (select max(n.capture_id) from raw_rules as n where n.key = v.key)
)
group by r.key
order by r.key
