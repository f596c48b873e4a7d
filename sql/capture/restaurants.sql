-- Every restaurant with its time zone, as text.
-- Grain: restaurant.
-- Parameters: none.
select
    id::text as key,
    name::text as name,
    timezone::text as timezone,
    xmin::text as row_xid
from restaurants
order by id
