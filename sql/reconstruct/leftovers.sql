-- What is left of holds that were never confirmed, in a source that records no refusal: shadow rows without a live hold, and
-- holds past their time. A refusal leaves these behind; a guest who gave up does, too.
-- Grain: shadow row, or hold.
-- Parameters: none.
with last_capture as (
    select capture_id, captured_at
    from captures
    where shape = 'idempotency'
    qualify row_number() over (order by capture_id desc) = 1
),

overdue as (
    select h.*, k.captured_at
    from holds as h
    cross join last_capture as k
    where h.gone_by is null
    and h.expires_at <= k.captured_at
    and h.status is distinct from 'confirmed'
    and h.hold_id not in (
        select hold_id from raw_confirmations where hold_id is not null
        union all
        select hold_id from logged where event = 'confirmed' and hold_id is not null
    )
),

shadow_rows as (
    select a.*, k.captured_at
    from (
        select *
        from raw_allocations
        where exists (from last_capture)
        qualify row_number() over (partition by key order by capture_id desc) = 1
    ) as a
    cross join last_capture as k
    anti join vanished as gone
        on gone.relation = 'allocations'
        and gone.key = a.key
        and gone.capture_id > a.capture_id
    -- A live hold still has its shadow, and so may one of which nobody knows how long it lives.
    anti join (
        select h.booking_id
        from holds as h
        cross join last_capture as k
        where h.gone_by is null
        and coalesce(h.expires_at > k.captured_at, true)
    ) as live
        on live.booking_id = a.booking_id
    where try_cast(a.shadow as boolean)
    -- Where no hold could be read, none is known to be over.
    and not exists (
        from capture_relations as r
        where r.capture_id = k.capture_id
        and r.relation = 'table_holds'
        and r.rows_read is null
    )
)

select
    'shadow row' as kind,
    a.key,
    a.booking_id,
    a.restaurant_id,
    a.resource_type,
    a.resource_id,
    w."window", w.window_lower, w.window_upper, w.lower_pos, w.upper_pos,
    try_cast(a.created_at as timestamptz) as created_at,
    null::timestamptz as expires_at
from shadow_rows as a
left join windows as w
    on w.window_text = a.window_text

union all

select
    'hold' as kind,
    h.hold_id as key,
    h.booking_id,
    h.restaurant_id,
    null as resource_type,
    null as resource_id,
    w."window", w.window_lower, w.window_upper, w.lower_pos, w.upper_pos,
    h.created_at,
    h.expires_at
from overdue as h
left join windows as w
    on w.window_text = h.window_text

order by kind, restaurant_id, lower_pos, key
