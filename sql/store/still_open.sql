-- The writers that a capture found in flight and that an earlier capture had found so, or that began an hour before it.
-- Grain: transaction that has written, or part of one.
-- Parameters: capture_id.
select
    w.row_xid,
    w.begun_at,
    min(e.capture_id) as open_since_capture
from capture_writers as w
inner join captures as c using (capture_id)
left join capture_writers as e
    on e.row_xid = w.row_xid
    and e.capture_id < w.capture_id
where w.capture_id = $capture_id
and (e.capture_id is not null or w.begun_at < c.captured_at - interval 1 hour)
group by w.row_xid, w.begun_at
order by w.begun_at, w.row_xid
