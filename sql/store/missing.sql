-- The source rows that the store holds and this capture did not find.
-- Grain: source row.
-- Parameters: none.
select key
from held
where key not in (select key from stage)
order by key
