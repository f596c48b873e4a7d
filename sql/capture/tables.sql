-- Every table of the inventory, as text.
-- Grain: table.
-- Parameters: none.
select
    id::text as key,
    restaurant_id::text as restaurant_id,
    table_number::text as table_number,
    capacity::text as capacity,
    min_party_size::text as min_party_size,
    max_party_size::text as max_party_size,
    section::text as section,
    active::text as active,
    xmin::text as row_xid
from table_inventory
order by id
