-- The newest version of every restaurant.
-- Grain: restaurant.
-- Parameters: none.
select
    key as restaurant_id,
    name,
    timezone
from raw_restaurants
qualify row_number() over (partition by key order by capture_id desc) = 1
order by restaurant_id
