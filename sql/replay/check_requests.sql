-- What one check asked for, each resource by the name its restaurant gives it and with its seats.
-- Grain: requested resource.
-- Parameters: check_id.
select
    q.source,
    q.resource_type,
    q.resource_id,
    t.table_number,
    coalesce(k.capacity, t.capacity) as seats,
    q."window",
    q.window_lower,
    q.window_upper
from requests as q
left join tables as t
    on t.table_id = q.resource_id
    and q.resource_type = 'table'
left join capacities as k
    on k.check_id = q.check_id
    and k.table_id = q.resource_id
where q.check_id = $check_id
order by t.table_number, q.resource_type, q.resource_id
