-- The source rows that the store holds and this capture did not find.
-- Grain: source row.
-- Parameters: none.
select key
from standing
anti join listed using (key)
order by key
