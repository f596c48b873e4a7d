-- Every hold that is still there, whole, as JSON text in UTC.
-- Grain: hold.
-- Parameters: none.
select
    -- A row without a key of its own goes by its place in the table.
    coalesce(document ->> 'id', place) as key,
    document::text as document,
    row_xid
from (
    select
        to_jsonb(t) as document,
        t.ctid::text as place,
        t.xmin::text as row_xid
    from table_holds as t
) as whole
order by key
