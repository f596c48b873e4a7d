-- The columns of the evidence table as the catalog has them; no rows when the search path shows no such table.
-- Grain: column of booking_confirmation_results.
-- Parameters: none.
select
    a.attname::text as column_name,
    format_type(a.atttypid, a.atttypmod) as data_type
from pg_catalog.pg_attribute as a
where a.attrelid = to_regclass('booking_confirmation_results')
and a.attnum > 0
and not a.attisdropped
order by a.attnum
