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
    -- A standby cannot tell on which branch of the server's history it is; a start may follow the loss of what was not on disk.
    case when not pg_is_in_recovery() then substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline,
    pg_postmaster_start_time()::text as started_at,
    pg_is_in_recovery()::text as standby,
    now()::text as captured_at
