-- What a unique booking_id would have cost: an upsert keeps the newest check of each booking and overwrites the others.
-- Grain: one row.
-- Parameters: none.
with ranked as (
    select
        l.*,
        c.snapshot_bytes + c.conflict_bytes as bytes,
        c.has_snapshot,
        v.grade <> 'none' as explained,
        lead(l.lookup_no) over of_booking is not null as overwritten,
        -- What failed came to no verdict.
        if(l.failed, null, l.recorded_verdict) as verdict,
        last_value(verdict) over (of_booking rows between unbounded preceding and unbounded following) as last_verdict,
        lag(verdict ignore nulls) over (partition by l.request_no order by l.lookup_no) as verdict_before
    from lookups as l
    inner join checks as c using (check_id)
    inner join verdicts as v using (check_id)
    window of_booking as (partition by l.booking_id order by l.lookup_no)
),

booked as (
    select
        booking_id,
        count(*) as checks,
        count(distinct request_no) as requests,
        count(distinct verdict) as verdicts,
        count(*) filter (verdict = 'confirmed') as confirmations
    from ranked
    group by booking_id
)

select
    (select count(*) from booked) as bookings,
    (select count(*) from booked where checks > 1) as bookings_with_several,
    (select count(*) from booked where requests > 1) as bookings_with_several_requests,
    (select count(*) from booked where verdicts > 1) as bookings_disagreeing,
    (select count(*) from booked where confirmations > 1) as bookings_confirmed_again,
    count(*) filter (overwritten) as rows_overwritten,
    count(*) filter (overwritten and verdict <> last_verdict) as verdicts_overwritten,
    count(*) filter (overwritten and verdict = 'refused') as refusals_overwritten,
    count(*) filter (overwritten and has_snapshot) as snapshots_overwritten,
    count(*) filter (overwritten and explained) as explanations_overwritten,
    coalesce(sum(bytes) filter (overwritten), 0)::bigint as bytes_overwritten,
    count(*) filter (verdict_before = 'confirmed') as asked_after_confirmed,
    count(*) filter (verdict_before = 'confirmed' and verdict = 'refused') as refused_after_confirmed
from ranked
