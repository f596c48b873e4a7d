-- The relations that the newest capture looked for and could not read.
-- Grain: relation.
-- Parameters: none.
select relation
from capture_relations
where rows_read is null
and capture_id = (select max(capture_id) from capture_relations)
order by relation
