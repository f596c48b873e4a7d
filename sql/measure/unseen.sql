-- What the idempotency shape tells of its cache: an answer from it leaves nothing, a computed one a row, that the next
-- overwrites, and an event in the outbox, where there is one.
-- Grain: one row.
-- Parameters: none.
with confirmed as (
    select
        key,
        any_value(booking_id) as booking_id,
        any_value(coalesce(idempotency_key, hold_id)) as asked
    from logged
    where event = 'confirmed'
    group by key
)

select
    (select count(*) from checks where shape = 'idempotency') as recorded,
    count(*) as logged,
    count(*) - count(distinct (booking_id, asked)) as computed_again
from confirmed
