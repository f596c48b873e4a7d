-- The source rows that the store holds and this capture did not find.
-- Grain: source row.
-- Parameters: none.
select key
from standing
where key not in (select key from listed)
order by key
