-- Every check as a lookup in a cache of verdicts, in the order of time, with what was asked before it. A request is a booking
-- with the tables and the window it asks for: another table or time is another question. In the idempotency shape only what was
-- computed leaves a row: such lookups have no rate.
-- Grain: check.
-- Parameters: none.
with numbered as (
    select
        c.check_id,
        c.shape,
        c.booking_id,
        c.restaurant_id,
        c.checked_at,
        c.recorded_verdict,
        -- Classes of SQLSTATE in which the server failed, or was stopped, before it came to a verdict.
        coalesce(left(c.sqlstate, 2) in ('08', '40', '53', '55', '57', '58', 'XX'), false) as failed,
        -- A window that cannot be read is a question of its own.
        concat_ws('|', c.booking_id, list_sort(c.table_ids)::varchar, coalesce(c.requested_window, s.requested_text)) as lookup_key,
        (epoch_us(c.requested_lower) - epoch_us(c.checked_at)) / 1000000 as lead_s,
        -- A zone that nobody knows has no local hour.
        hour(timezone(z.name, c.checked_at)) as local_hour,
        row_number() over (order by c.checked_at, try_cast(c.check_id as bigint), c.check_id) as lookup_no
    from checks as c
    left join (select check_no, requested_text from snapshots) as s using (check_no)
    left join restaurants as r using (restaurant_id)
    left join pg_timezone_names() as z
        on z.name = r.timezone
    where c.checked_at is not null
),

compared as (
    select
        *,
        min(lookup_no) over (partition by booking_id) as booking_no,
        min(lookup_no) over (partition by lookup_key) as request_no,
        (epoch_us(checked_at) - lag(epoch_us(checked_at)) over (partition by lookup_key order by lookup_no)) / 1000000 as gap_s
    from numbered
)

select
    *,
    case
        when lookup_no = booking_no then 'first check'
        when lookup_no = request_no then 'new request'
        -- A client that tries again, not a person who asks again.
        when gap_s <= 60 then 'retry'
        else 're-check'
    end as repeat
from compared
order by lookup_no
