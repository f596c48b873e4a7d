-- Who reads, which server answers, and the one snapshot that every table is read from.
-- Grain: one row.
-- Parameters: none.
select
    current_user::text as role,
    current_setting('server_version') as server_version,
    current_database()::text as database,
    (select oid::text from pg_catalog.pg_database where datname = current_database()) as database_oid,
    -- Where the log stands as this is asked: about the place of the snapshot, which has none of its own.
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text as lsn,
    pg_current_snapshot()::text as snapshot,
    -- Whoever has written and not committed yet holds the lock on its own transaction's number, of which rows keep the low half.
    (
        select string_agg(writer, ',' order by writer)
        from (
            select transactionid::text as writer
            from pg_catalog.pg_locks
            where locktype = 'transactionid'
            and mode = 'ExclusiveLock'
            and granted
            union
            select (xip::text::numeric % 4294967296)::text
            from pg_snapshot_xip(pg_current_snapshot()) as xip
        ) as writers
    ) as in_flight,
    pg_is_in_recovery()::text as standby,
    now()::text as captured_at
