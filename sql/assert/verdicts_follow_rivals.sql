-- Conflicts without a rival that was there at the check, and other verdicts with one.
-- Grain: check.
-- Parameters: none.
select
    v.check_id,
    v.replayed_verdict,
    count(r.check_id) as rivals
from verdicts as v
left join rivals as r
    on r.check_id = v.check_id
    and r.source in ('snapshot', 'reconstructed', 'other restaurant', 'same request')
group by v.check_id, v.replayed_verdict
having (v.replayed_verdict = 'conflict') <> (rivals > 0)
order by v.check_id
