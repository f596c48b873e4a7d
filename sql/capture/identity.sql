-- Which server this is: the number that its data directory was given when it was made, and copies of it share.
-- Grain: one row.
-- Parameters: none.
select system_identifier::text as system_identifier
from pg_control_system()
