-- The newest version of every restaurant.
-- Grain: restaurant.
-- Parameters: none.
with newest as (
    from raw_restaurants
    qualify row_number() over (partition by key order by capture_id desc) = 1
)

select
    key as restaurant_id,
    name,
    -- Two restaurants of one name are told apart by their ids.
    if(count(*) over (partition by name) > 1, concat_ws(' ', name, key), name) as label,
    timezone
from newest
order by restaurant_id
