-- The rows that another transaction wrote than the version which the store holds, and that say the same.
-- Grain: source row.
-- Parameters: none.
select
    stage.key,
    stage.row_xid
from stage
inner join standing as s using (key)
anti join changed_rows using (key)
where s.row_xid <> stage.row_xid
order by stage.key
