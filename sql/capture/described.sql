-- What the tables that are read take up at the source, in bytes, the columns they have there, each with its type, and a hash
-- that changes with their definition, so that rows may say something else though nobody wrote them.
-- Grain: relation.
-- Parameters: none.
select
    t.relation,
    string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum) as source_columns,
    case when c.relkind = 'r' then md5(
        c.oid || ' ' || string_agg(
            concat_ws(' ', a.attnum, a.xmin, (
                select string_agg(e.xmin::text, ' ' order by e.oid) from pg_catalog.pg_enum as e where e.enumtypid = a.atttypid
            )),
            ',' order by a.attnum
        )
    ) end as definition_hash,
    -- A view, a foreign table, or the parent of partitions has no storage of its own: null, not zero.
    case when c.relkind in ('r', 'm') then pg_relation_size(c.oid) end as heap_bytes,
    case when c.relkind in ('r', 'm') then pg_table_size(c.oid) - pg_relation_size(c.oid) end as toast_bytes,
    case when c.relkind in ('r', 'm') then pg_indexes_size(c.oid) end as index_bytes
from (
    values
        ('checks', 'booking_confirmation_results'),
        ('confirmations', 'booking_confirmation_results'),
        ('allocations', 'allocations'),
        ('allocations_archive', 'allocations_archive'),
        ('tables', 'table_inventory'),
        ('restaurants', 'restaurants'),
        ('capacity_outbox', 'capacity_outbox'),
        ('audit_logs', 'audit_logs'),
        ('booking_assignment_idempotency', 'booking_assignment_idempotency'),
        ('booking_table_assignments', 'booking_table_assignments'),
        ('table_holds', 'table_holds'),
        ('observability_events', 'observability_events')
) as t (relation, table_name)
inner join pg_catalog.pg_class as c on c.oid = to_regclass(t.table_name)
inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
group by t.relation, c.oid, c.relkind
order by t.relation
