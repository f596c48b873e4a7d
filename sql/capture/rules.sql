-- The exclusion constraints on allocations, in PostgreSQL's own words.
-- Grain: constraint.
-- Parameters: none.
select
    c.conname::text as key,
    pg_get_constraintdef(c.oid) as definition,
    c.xmin::text as row_xid
from pg_catalog.pg_constraint as c
where c.conrelid = to_regclass('allocations')
and c.contype = 'x'
order by c.conname
