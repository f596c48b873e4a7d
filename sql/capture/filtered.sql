-- The tables of which row-level security would show this role a part, each with the policies that say which.
-- Grain: table that is read.
-- Parameters: none.
select
    c.relname::text as table_name,
    string_agg('"' || p.polname || '"', ', ' order by p.polname) as policies
from pg_catalog.pg_class as c
left join pg_catalog.pg_policy as p on p.polrelid = c.oid
where c.oid in (
    to_regclass('booking_confirmation_results'), to_regclass('allocations'), to_regclass('allocations_archive'),
    to_regclass('table_inventory'), to_regclass('restaurants')
)
and row_security_active(c.oid)
group by c.relname
order by c.relname
