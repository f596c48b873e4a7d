-- What keeping the evidence for so many days would have freed and lost; the newest check stands for today.
-- Grain: retention in days.
-- Parameters: days, a list of retentions in days.
with horizons as (
    select unnest($days) as days
),

evidence as (
    select
        c.check_id,
        c.checked_at,
        c.requested_lower,
        c.snapshot_bytes + c.conflict_bytes as bytes,
        v.grade <> 'none' as explained,
        l.gap_s,
        max(c.checked_at) over () as newest_at
    from checks as c
    inner join verdicts as v using (check_id)
    inner join lookups as l using (check_id)
)

select
    h.days,
    count(*) filter (e.checked_at >= e.newest_at - to_days(h.days)) as rows_kept,
    count(*) filter (e.checked_at < e.newest_at - to_days(h.days)) as rows_freed,
    coalesce(sum(e.bytes) filter (e.checked_at >= e.newest_at - to_days(h.days)), 0)::bigint as bytes_kept,
    coalesce(sum(e.bytes) filter (e.checked_at < e.newest_at - to_days(h.days)), 0)::bigint as bytes_freed,
    count(*) filter (e.gap_s > h.days * 86400) as hits_lost,
    count(*) filter (e.explained and e.checked_at < e.newest_at - to_days(h.days)) as explanations_lost,
    count(*) filter (e.requested_lower > e.checked_at + to_days(h.days)) as purged_before_meal
from horizons as h
cross join evidence as e
group by h.days
order by h.days
