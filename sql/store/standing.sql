-- Every source row that was not missing when last looked for: its newest version, and the transaction that last wrote it there.
-- Grain: source row.
-- Parameters: relation, the name of the raw relation that all_versions shows.
with newest as (
    select
        key,
        max(capture_id) as capture_id,
        arg_max(coalesce(row_xid, ''), capture_id) as row_xid
    from all_versions
    group by key
)

select
    v.key,
    v.capture_id,
    coalesce(again.row_xid, v.row_xid) as row_xid
from newest as v
left join (
    select
        key,
        max(capture_id) as capture_id,
        arg_max(row_xid, capture_id) as row_xid
    from rewritten
    where relation = $relation
    group by key
) as again
    on again.key = v.key
    and again.capture_id > v.capture_id
left join (
    select
        key,
        max(capture_id) as capture_id
    from vanished
    where relation = $relation
    group by key
) as gone
    on gone.key = v.key
    and gone.capture_id > v.capture_id
where gone.key is null
order by v.key
