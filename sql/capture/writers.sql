-- Whoever has written and not committed yet: each transaction's number, of which rows keep the low half, and when it began.
-- Grain: transaction that has written, or part of one.
-- Parameters: none.
with writers as (
    -- A writer holds the lock on its own number.
    select
        l.transactionid::text as row_xid,
        -- Null where the role may not see what others do.
        a.xact_start as begun_at
    from pg_catalog.pg_locks as l
    left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
    where l.locktype = 'transactionid'
    and l.mode = 'ExclusiveLock'
    and l.granted

    union all

    select
        transaction::text as row_xid,
        prepared as begun_at
    from pg_catalog.pg_prepared_xacts

    union all

    select
        (xip::text::numeric % 4294967296)::text as row_xid,
        null as begun_at
    from pg_snapshot_xip(pg_current_snapshot()) as xip
)

select
    row_xid,
    min(begun_at)::text as begun_at
from writers
group by row_xid
order by row_xid
