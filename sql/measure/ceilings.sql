-- What a cache of these lookups would answer that never forgets, and one that also knows when its answer no longer holds.
-- Grain: one row.
-- Parameters: none.
with answered as (
    select
        repeat,
        failed,
        recorded_verdict,
        lag(if(failed, null, recorded_verdict) ignore nulls) over (partition by request_no order by lookup_no) as answer
    from lookups
    where shape = 'audit'
)

select
    count(*) as lookups,
    count(answer) as infinite,
    count(*) filter (answer = recorded_verdict and not failed) as clairvoyant,
    count(*) filter (repeat = 'retry') as retries,
    count(*) filter (repeat = 're-check') as rechecks,
    count(*) filter (failed) as failures
from answered
