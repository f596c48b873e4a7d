-- The newest version of every source row that was not missing when last looked for.
-- Grain: source row.
-- Parameters: relation, the name of the raw relation that held_versions shows.
select v.* exclude (capture_id)
from (
    select *
    from held_versions
    qualify row_number() over (partition by key order by capture_id desc) = 1
) as v
left join vanished as gone
    on gone.relation = $relation
    and gone.key = v.key
    and gone.capture_id > v.capture_id
where gone.key is null
order by v.key
