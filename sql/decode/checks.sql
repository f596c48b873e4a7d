-- Every check with what was recorded about it, typed.
-- Grain: check.
-- Parameters: none.
select
    s.check_id,
    s.booking_id,
    coalesce(s.snapshot.request.restaurant_id, s.snapshot.scope.restaurant_id) as restaurant_id,
    try_cast(s.checked_at as timestamptz) as checked_at,
    case try_cast(s.confirmed as boolean) when true then 'confirmed' when false then 'refused' end as recorded_verdict,
    s.conflict.sqlstate as sqlstate,
    s.conflict."constraint" as constraint_name,
    s.conflict.message as message,
    s.conflict.detail as detail,
    s.snapshot.request.hold_id as hold_id,
    s.snapshot.request.table_ids as table_ids,
    w."window" as requested_window,
    w.window_lower as requested_lower,
    w.window_upper as requested_upper,
    scope."window" as scope_window,
    scope.window_lower as scope_lower,
    scope.window_upper as scope_upper,
    scope.lower_pos as scope_lower_pos,
    scope.upper_pos as scope_upper_pos,
    s.snapshot is not null as has_snapshot,
    s.snapshot_problem,
    coalesce(len(s.snapshot.allocations), 0) as snapshot_allocations,
    s.snapshot_bytes,
    s.conflict_bytes,
    s.capture_id
from snapshots as s
left join windows as w
    on w.window_text = json_extract_string(s.snapshot.request."window", '$')
left join windows as scope
    on scope.window_text = json_extract_string(s.snapshot.scope."window", '$')
-- Polars and Python know the years 1 to 9999 only; a check at any other instant is in quarantine.
where year(try_cast(s.checked_at as timestamptz)) between 1 and 9999
order by checked_at, try_cast(s.check_id as bigint), s.check_id
