-- The newest version of every source row that was not missing when last looked for, as far as it was read again.
-- Grain: source row.
-- Parameters: none; held_versions shows the raw relation, standing which of its versions count, stage what was read.
select v.* exclude (capture_id)
from held_versions as v
semi join standing as s
    on s.key = v.key
    and s.capture_id = v.capture_id
where v.key in (select key from stage)
order by v.key
