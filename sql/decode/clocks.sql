-- How far a recorded instant of the idempotency shape is off: its default takes UTC for the session's local time. What was
-- written in the same transaction, or about it, by another clock shows by how many quarters of an hour.
-- Grain: check of the idempotency shape.
-- Parameters: none.
with recorded as (
    select
        check_id,
        booking_id,
        hold_id,
        table_ids,
        idempotency_key,
        try_cast(checked_at as timestamptz) as recorded_at
    from snapshots
    where shape = 'idempotency'
),

siblings as (
    -- The log names the event: it may have been written a moment later.
    select r.check_id, r.recorded_at, l.source, l.logged_at, 1000000 as tolerance_us
    from recorded as r
    inner join logged as l
        on l.booking_id = r.booking_id
        and (l.idempotency_key = r.idempotency_key or l.hold_id = r.hold_id or l.source = 'audit_logs' and l.event = 'assigned')

    union

    -- An allocation may have been changed at any time since: only the transaction's own instant counts.
    select r.check_id, r.recorded_at, 'allocations' as source, try_cast(a.updated_at as timestamptz) as logged_at, 0 as tolerance_us
    from recorded as r
    inner join (
        from raw_allocations
        union all by name
        from raw_allocations_archive
    ) as a
        on a.booking_id = r.booking_id
        and list_contains(r.table_ids, a.resource_id)
),

differences as (
    select
        check_id,
        source,
        round((epoch_us(recorded_at) - epoch_us(logged_at)) / 900000000)::bigint * 900 as skew_s,
        epoch_us(recorded_at) - epoch_us(logged_at) = skew_s * 1000000 as is_exact
    from siblings
    -- No zone is further from UTC than 14 hours.
    where abs(epoch_us(recorded_at) - epoch_us(logged_at)) < 51300000000
    and abs(epoch_us(recorded_at) - epoch_us(logged_at) - skew_s * 1000000) <= tolerance_us
),

-- What differs by whole quarters of an hour to the microsecond is of the same transaction; what does so nearly may be of another
-- act. Where one sibling agrees and another does not, the agreeing one is off alike.
chosen as (
    select
        check_id,
        skew_s,
        string_agg(distinct source, ', ' order by source) as sibling
    from differences
    group by check_id, skew_s
    qualify row_number() over (
        partition by check_id
        order by bool_or(is_exact) desc, skew_s <> 0 desc, count(*) desc, abs(skew_s), skew_s
    ) = 1
)

select
    r.check_id,
    r.recorded_at,
    c.skew_s,
    c.sibling
from recorded as r
left join chosen as c using (check_id)
order by r.check_id
