-- The source's tables that the newest capture looked for and could not read.
-- Grain: table.
-- Parameters: none.
select if(relation = 'tables', 'table_inventory', relation) as table_name
from capture_relations
where rows_read is null
and capture_id = (select max(capture_id) from capture_relations)
order by table_name
