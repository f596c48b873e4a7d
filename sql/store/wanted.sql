-- The rows that the source lists as written by another transaction than the version that the store holds, or that it lacks.
-- Grain: source row.
-- Parameters: none; listed holds what the source lists, standing what the store holds.
select key
from listed
anti join standing using (key, row_xid)
order by key
