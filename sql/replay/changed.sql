-- The checks that come out otherwise under the rule of this replay than under the one in force when they ran.
-- Grain: check.
-- Parameters: none.
select
    this.check_id,
    c.recorded_verdict,
    stored.replayed_verdict as verdict_in_force,
    this.replayed_verdict,
    this.cause,
    n.rivals
from verdicts as this
inner join stored_verdicts as stored using (check_id)
inner join checks as c using (check_id)
left join (
    select
        check_id,
        string_agg(distinct kind || ' ' || coalesce(allocation_id, '?'), ', ' order by kind || ' ' || coalesce(allocation_id, '?'))
            as rivals
    from rivals
    group by check_id
) as n using (check_id)
where this.replayed_verdict <> stored.replayed_verdict
order by c.checked_at, try_cast(this.check_id as bigint), this.check_id
