-- What each check asked for: from the snapshot's request, else from the conflict's list of attempted allocations.
-- Grain: check × requested resource.
-- Parameters: none.
with said as (
    select
        check_id,
        'request' as source,
        'table' as resource_type,
        unnest(list_distinct(snapshot.request.table_ids)) as resource_id,
        json_extract_string(snapshot.request."window", '$') as window_text
    from snapshots
    where len(snapshot.request.table_ids) > 0

    union all

    select
        check_id,
        'attempted' as source,
        unnest(conflict.attempted).resource_type as resource_type,
        unnest(conflict.attempted).resource_id as resource_id,
        json_extract_string(unnest(conflict.attempted)."window", '$') as window_text
    from snapshots
    where coalesce(len(snapshot.request.table_ids), 0) = 0
)

select
    s.check_id,
    s.source,
    s.resource_type,
    coalesce(try_cast(s.resource_id as uuid)::varchar, s.resource_id) as resource_id,
    w."window",
    w.window_lower,
    w.window_upper,
    w.lower_inc,
    w.upper_inc,
    w.lower_pos,
    w.upper_pos
from said as s
inner join windows as w using (window_text)
where w.problem is null
order by s.check_id, s.resource_type, s.resource_id
