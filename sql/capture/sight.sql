-- What may keep the evidence table's rows out of sight: tables of its name elsewhere, row-level security, a standby behind.
-- Grain: one row.
-- Parameters: none.
select
    n.nspname::text as schema_name,
    current_setting('search_path') as search_path,
    (
        select string_agg(quote_ident(other.nspname), ', ' order by other.nspname)
        from pg_catalog.pg_class as o
        inner join pg_catalog.pg_namespace as other
            on other.oid = o.relnamespace
        where o.relname = 'booking_confirmation_results'
        and o.relkind in ('r', 'p')
        and o.oid is distinct from c.oid
    ) as elsewhere,
    coalesce(row_security_active(c.oid), false) as filtered,
    -- What the last vacuum or analyze counted; -1 before the first.
    c.reltuples::bigint as rows_estimated,
    pg_is_in_recovery() as standby,
    pg_last_xact_replay_timestamp()::text as replayed_until
from (select to_regclass('booking_confirmation_results') as oid) as found
left join pg_catalog.pg_class as c
    on c.oid = found.oid
left join pg_catalog.pg_namespace as n
    on n.oid = c.relnamespace
