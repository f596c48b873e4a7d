-- Every recorded success of the idempotency shape, as text in UTC; its tables as a JSON list.
-- Grain: booking × idempotency key.
-- Parameters: none.
select
    replace(replace(booking_id::text, '%', '%25'), '/', '%2F') || '/' || idempotency_key as key,
    booking_id::text as booking_id,
    hold_id::text as hold_id,
    restaurant_id::text as restaurant_id,
    idempotency_key::text as idempotency_key,
    to_json(table_ids)::text as table_ids,
    assignment_window::text as window_text,
    created_at::text as created_at,
    actor_id::text as actor_id,
    metadata::text as metadata,
    xmin::text as row_xid
from booking_confirmation_results
order by key
