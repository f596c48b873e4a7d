-- Every entry of the assignments' own record by idempotency key, whole, as JSON text in UTC.
-- Grain: booking × idempotency key.
-- Parameters: none.
select
    -- A row without a key of its own goes by its place in the table.
    coalesce(document ->> 'id', (document ->> 'booking_id') || '/' || (document ->> 'idempotency_key'), place) as key,
    document::text as document,
    row_xid
from (
    select
        to_jsonb(t) as document,
        t.ctid::text as place,
        t.xmin::text as row_xid
    from booking_assignment_idempotency as t
) as whole
order by key
