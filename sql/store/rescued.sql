-- How many of the versions that a capture found new come from writers that were in flight at the capture before it: they
-- committed late.
-- Grain: one row.
-- Parameters: in_flight: what the capture before says of itself, null for none.
select count(*) as rescued
from changed
where list_contains(string_split($in_flight, ','), row_xid)
