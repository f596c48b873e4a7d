-- Every check as a lookup in a cache of verdicts, with the lookup of the same key before it. The key is the booking
-- with the tables and the window it asks for: another table or time is another question.
-- Grain: check.
-- Parameters: none.
with keyed as (
    select
        check_id,
        booking_id,
        restaurant_id,
        checked_at,
        recorded_verdict,
        concat_ws('|', booking_id, list_sort(table_ids)::varchar, requested_window) as lookup_key
    from checks
    where checked_at is not null
)

select
    *,
    (epoch_us(checked_at) - lag(epoch_us(checked_at)) over same_key) / 1000000 as gap_s
from keyed
window same_key as (partition by lookup_key order by checked_at, try_cast(check_id as bigint), check_id)
order by lookup_key, checked_at, try_cast(check_id as bigint), check_id
