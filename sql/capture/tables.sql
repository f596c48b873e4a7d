-- Every table of the inventory, as text; null where the source has no such column.
-- Grain: table.
-- Parameters: none.
select
    id::text as key,
    to_jsonb(t) ->> 'restaurant_id' as restaurant_id,
    to_jsonb(t) ->> 'table_number' as table_number,
    to_jsonb(t) ->> 'capacity' as capacity,
    to_jsonb(t) ->> 'min_party_size' as min_party_size,
    to_jsonb(t) ->> 'max_party_size' as max_party_size,
    to_jsonb(t) ->> 'section' as section,
    to_jsonb(t) ->> 'active' as active,
    xmin::text as row_xid
from table_inventory as t
order by id
