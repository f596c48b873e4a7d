-- How the row of one check was found otherwise after it was first captured: changed in place, with the columns that read
-- otherwise than before and what was recorded before; or gone, with none.
-- Grain: capture that found it so.
-- Parameters: check_id.
with versions as (
    select capture_id, confirmed, booking_id, checked_at, conflict_details, snapshot_data
    from raw_checks
    where key = $check_id

    union all by name

    select capture_id, 'true' as confirmed, hold_id, restaurant_id, table_ids, window_text, created_at, actor_id, metadata
    from raw_confirmations
    where key = $check_id
),

compared as (
    select
        capture_id,
        lag(capture_id) over w as before_capture_id,
        case lag(confirmed) over w when 'true' then 'confirmed' when 'false' then 'refused' end as before_verdict,
        [
            if(confirmed is distinct from lag(confirmed) over w, 'confirmed', null),
            if(booking_id is distinct from lag(booking_id) over w, 'booking_id', null),
            if(checked_at is distinct from lag(checked_at) over w, 'checked_at', null),
            if(conflict_details is distinct from lag(conflict_details) over w, 'conflict_details', null),
            if(snapshot_data is distinct from lag(snapshot_data) over w, 'snapshot_data', null),
            if(hold_id is distinct from lag(hold_id) over w, 'hold_id', null),
            if(restaurant_id is distinct from lag(restaurant_id) over w, 'restaurant_id', null),
            if(table_ids is distinct from lag(table_ids) over w, 'table_ids', null),
            if(window_text is distinct from lag(window_text) over w, 'assignment_window', null),
            if(created_at is distinct from lag(created_at) over w, 'created_at', null),
            if(actor_id is distinct from lag(actor_id) over w, 'actor_id', null),
            if(metadata is distinct from lag(metadata) over w, 'metadata', null)
        ] as changed
    from versions
    window w as (order by capture_id)
)

select
    capture_id,
    before_capture_id,
    before_verdict,
    list_filter(changed, lambda name : name is not null) as changed
from compared
where before_capture_id is not null

union all

select
    capture_id,
    null as before_capture_id,
    null as before_verdict,
    [] as changed
from vanished
where relation in ('checks', 'confirmations')
and key = $check_id
order by capture_id
