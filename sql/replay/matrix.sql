-- The recorded against the replayed verdicts, by cause.
-- Grain: recorded verdict × replayed verdict × cause.
-- Parameters: none.
select
    c.recorded_verdict,
    v.replayed_verdict,
    v.cause,
    count(*) as checks
from checks as c
inner join verdicts as v using (check_id)
group by c.recorded_verdict, v.replayed_verdict, v.cause
order by c.recorded_verdict, v.replayed_verdict, checks desc, v.cause
