-- The newest version of every table.
-- Grain: table.
-- Parameters: none.
select
    key as table_id,
    restaurant_id,
    table_number,
    try_cast(capacity as integer) as capacity,
    try_cast(active as boolean) as active
from raw_tables
qualify row_number() over (partition by key order by capture_id desc) = 1
order by table_id
