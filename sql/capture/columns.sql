-- The columns of every table that may be read, as the catalog has them; none for a table that the search path does not show.
-- Grain: column.
-- Parameters: none.
select
    c.relname::text as table_name,
    a.attname::text as column_name,
    format_type(a.atttypid, a.atttypmod) as data_type,
    has_column_privilege(c.oid, a.attnum, 'select') as readable
from unnest(array[
    'booking_confirmation_results', 'allocations', 'allocations_archive', 'table_inventory', 'restaurants', 'capacity_outbox',
    'audit_logs', 'booking_assignment_idempotency', 'booking_table_assignments', 'table_holds', 'observability_events'
]) as listed (table_name)
inner join pg_catalog.pg_class as c
    on c.oid = to_regclass(listed.table_name)
inner join pg_catalog.pg_attribute as a
    on a.attrelid = c.oid
    and a.attnum > 0
    and not a.attisdropped
order by c.relname, a.attnum
