-- What a retention would have freed and lost, for so many days. Today is as_of; a check goes when its days are over, counted
-- from the check itself or from the end of the window it asks for.
-- Grain: retention in days.
-- Parameters: days, basis, refusals: a list of retentions in days; check or window; how many times as long refusals are kept.
with today as (
    -- A clock that runs ahead of the server that was read is no day to count from.
    select coalesce(max(c.checked_at) filter (c.checked_at <= k.captured_at), max(k.captured_at)) as as_of
    from checks as c
    inner join captures as k using (capture_id)
),

evidence as (
    select
        l.lookup_no,
        l.request_no,
        l.failed,
        l.recorded_verdict = 'refused' as refused,
        if(refused, $refusals, 1) as times,
        epoch_us(l.checked_at) as checked_us,
        epoch_us(c.requested_lower) as meal_us,
        case
            when $basis = 'check' or c.requested_window is null then checked_us
            -- A window without an end is never over.
            else coalesce(epoch_us(c.requested_upper), 1::bigint << 61)
        end as since_us,
        c.snapshot_bytes + c.conflict_bytes as bytes,
        c.stored_bytes,
        v.grade <> 'none' as explained,
        epoch_us((select as_of from today)) as as_of_us
    from lookups as l
    inner join checks as c using (check_id)
    inner join verdicts as v using (check_id)
),

-- The newest answers of either verdict that a lookup could be given: they outlive the others.
answered as (
    select
        *,
        max(since_us) filter (not failed and not refused) over earlier as confirmed_us,
        max(since_us) filter (not failed and refused) over earlier as refused_us
    from evidence
    window earlier as (partition by request_no order by lookup_no rows between unbounded preceding and 1 preceding)
),

-- How long a retention must be, in microseconds, for each thing to be kept; a longer one loses nothing of it.
needed as (
    select
        *,
        (as_of_us - since_us) / times as to_be_kept,
        least(as_of_us - confirmed_us, (as_of_us - refused_us) / $refusals) as to_keep_an_answer,
        least(checked_us - confirmed_us, (checked_us - refused_us) / $refusals) as to_be_answered,
        (meal_us - since_us) / times as to_last_until_the_meal
    from answered
)

select
    h.days,
    make_timestamptz(any_value(n.as_of_us)) as as_of,
    count(*) filter (n.to_be_kept <= h.us) as rows_kept,
    count(*) filter (n.to_be_kept > h.us) as rows_freed,
    coalesce(sum(n.bytes) filter (n.to_be_kept <= h.us), 0)::bigint as bytes_kept,
    coalesce(sum(n.bytes) filter (n.to_be_kept > h.us), 0)::bigint as bytes_freed,
    if(
        count(n.stored_bytes) = count(*), coalesce(sum(n.stored_bytes) filter (n.to_be_kept > h.us), 0), null
    )::bigint as stored_bytes_freed,
    count(*) filter (n.to_be_answered > h.us) as hits_lost,
    count(*) filter (greatest(n.to_keep_an_answer, n.to_be_kept) > h.us and n.to_be_answered is not null) as hits_forgotten,
    count(*) filter (n.explained and n.to_be_kept > h.us) as explanations_lost,
    count(*) filter (n.explained and n.refused and n.to_be_kept > h.us) as refusals_lost,
    count(n.to_last_until_the_meal) as meals,
    count(*) filter (n.to_last_until_the_meal > h.us) as purged_before_meal
from (
    select
        unnest($days) as days,
        days * 86400000000 as us
) as h
cross join needed as n
group by h.days
order by h.days
