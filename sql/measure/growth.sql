-- How the evidence grew: rows, bytes of their text, and bytes as PostgreSQL stores them, which is null where a capture did not
-- record it.
-- Grain: day (UTC), or restaurant, with at least one check.
-- Parameters: by: day or restaurant.
select
    if($by = 'day', c.checked_at::date::varchar, coalesce(r.label, c.restaurant_id, 'unknown')) as label,
    count(*) as checks,
    sum(c.snapshot_bytes)::bigint as snapshot_bytes,
    sum(c.conflict_bytes)::bigint as conflict_bytes,
    if(count(c.stored_bytes) = count(*), sum(c.stored_bytes), null)::bigint as stored_bytes,
    sum(c.snapshot_bytes + c.conflict_bytes) / count(*) as bytes_a_check
from checks as c
left join restaurants as r using (restaurant_id)
group by all
order by label
