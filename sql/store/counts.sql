-- How many of the rows just read are new, changed in place, or vanished; and how many of the new and changed were rescued: their
-- writers were in flight at the capture before, and committed late.
-- Grain: one row.
-- Parameters: in_flight: what the capture before says of itself, null for none.
select
    count(*) filter (is_new) as rows_new,
    count(*) filter (not is_new) as rows_changed,
    (select count(*) from missing_rows) as rows_vanished,
    count(*) filter (list_contains(string_split($in_flight, ','), row_xid)) as rows_rescued
from changed_rows
