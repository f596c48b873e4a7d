-- The rows just read that the store does not hold in this version, each new or changed in place.
-- Grain: source row.
-- Parameters: none.
select
    staged.*,
    staged.key not in (select key from held_versions) as is_new
from (
    select * from stage
    except
    select * from held
) as staged
order by staged.key
