-- All rivals of one check, the earliest window first, with what was asked of the resource they share.
-- Grain: requested resource × rival.
-- Parameters: check_id.
select
    n.* exclude (check_id),
    t.table_number,
    q."window" as asked_window,
    q.window_lower as asked_lower,
    q.window_upper as asked_upper,
    exists (
        from named_rivals as p
        inner join windows as w using (window_text)
        where p.check_id = n.check_id
        and p.resource_type = n.rival_resource_type
        and p.resource_id = n.rival_resource_id
        and w."window" = n."window"
    ) as is_named
from rivals as n
inner join requests as q using (check_id, resource_type, resource_id)
left join tables as t
    on t.table_id = n.rival_resource_id
    and n.rival_resource_type = 'table'
where n.check_id = $check_id
-- Once, also where two rules forbid it or a snapshot lists it twice.
qualify row_number() over (
    partition by n.rival_resource_type, n.rival_resource_id, n.allocation_id, n."window" order by n.rule, n.source
) = 1
order by n.window_lower nulls first, n."window", n.resource_id, n.allocation_id
