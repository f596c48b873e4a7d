-- Checks that do not have exactly one verdict with exactly one cause, and verdicts of no check.
-- Grain: check id.
-- Parameters: none.
select
    check_id,
    count(distinct c.rowid) as checks,
    count(v.cause) as verdicts
from checks as c
full join verdicts as v using (check_id)
group by check_id
having checks <> 1 or verdicts <> 1 or count(v.replayed_verdict) <> 1
order by check_id
