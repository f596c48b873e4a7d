-- Every restaurant with its time zone, as text; null where the source has no such column.
-- Grain: restaurant.
-- Parameters: none.
select
    id::text as key,
    to_jsonb(r) ->> 'name' as name,
    to_jsonb(r) ->> 'timezone' as timezone,
    xmin::text as row_xid
from restaurants as r
order by id
