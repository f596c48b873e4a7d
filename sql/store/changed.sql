-- The rows just read that the store does not hold in this version, each new or changed in place.
-- Grain: source row.
-- Parameters: none.
select
    staged.*,
    stage.row_xid,
    staged.key not in (select key from held_versions) as is_new
from (
    select * exclude (row_xid) from stage
    except
    select * from held
) as staged
inner join stage using (key)
order by staged.key
