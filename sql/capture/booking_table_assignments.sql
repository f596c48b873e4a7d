-- Every table that a booking has now, whole, as JSON text in UTC.
-- Grain: booking × table.
-- Parameters: none.
select
    -- A row without a key of its own goes by its place in the table.
    coalesce(document ->> 'id', (document ->> 'booking_id') || '/' || (document ->> 'table_id'), place) as key,
    document::text as document,
    row_xid
from (
    select
        to_jsonb(t) as document,
        t.ctid::text as place,
        t.xmin::text as row_xid
    from booking_table_assignments as t
) as whole
order by key
