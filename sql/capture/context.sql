-- Who reads, which server answers, and the one snapshot that every table is read from.
-- Grain: one row.
-- Parameters: none.
select
    current_user::text as role,
    current_setting('server_version') as server_version,
    current_database()::text as database,
    pg_current_snapshot()::text as snapshot,
    pg_is_in_recovery()::text as standby,
    now()::text as captured_at
