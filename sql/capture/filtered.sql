-- The tables of which row-level security would show this role a part, each with the policies that say which.
-- Grain: table that may be read.
-- Parameters: none.
select
    c.relname::text as table_name,
    string_agg('"' || p.polname || '"', ', ' order by p.polname) as policies
from unnest(array[
    'booking_confirmation_results', 'allocations', 'allocations_archive', 'table_inventory', 'restaurants', 'capacity_outbox',
    'audit_logs', 'booking_assignment_idempotency', 'booking_table_assignments', 'table_holds', 'observability_events'
]) with ordinality as listed (table_name, place)
inner join pg_catalog.pg_class as c
    on c.oid = to_regclass(listed.table_name)
left join pg_catalog.pg_policy as p
    on p.polrelid = c.oid
where row_security_active(c.oid)
group by c.relname, listed.place
order by listed.place
