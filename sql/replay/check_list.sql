-- Every check with both verdicts, the cause and how sure the answer is, in the order in which they ran.
-- Grain: check.
-- Parameters: booking_id, conflicts, disagreements: null for those of any booking; when true only checks with that property.
select
    c.check_id,
    c.booking_id,
    c.restaurant_id,
    c.checked_at,
    c.recorded_verdict,
    v.replayed_verdict,
    v.cause,
    v.grade
from checks as c
inner join verdicts as v using (check_id)
where (
    $booking_id is null
    or c.booking_id = $booking_id
    or (c.booking_id = lower($booking_id) and (select are_uuids from ids))
)
and (not $conflicts or v.replayed_verdict = 'conflict' or v.cause in ('rival_committed_meanwhile', 'rival_perhaps_committed_meanwhile'))
and (not $disagreements or v.cause <> 'agreed')
order by c.checked_at, try_cast(c.check_id as bigint), c.check_id
