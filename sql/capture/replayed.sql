-- How far a standby has replayed, as text; null where the server is none.
-- Grain: one row.
-- Parameters: none.
select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() end::text as replayed_until
