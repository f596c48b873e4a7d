-- What the evidence table took up at its source when it was last captured; null where that capture could not know.
-- Grain: one row; none before the first capture.
-- Parameters: none.
select
    k.captured_at,
    r.rows_read as checks,
    r.heap_bytes,
    r.toast_bytes,
    r.index_bytes,
    (r.heap_bytes + r.toast_bytes + r.index_bytes) / r.rows_read as bytes_a_check
from capture_relations as r
inner join captures as k using (capture_id)
where r.relation = 'checks'
order by r.capture_id desc
limit 1
