-- The rows that another transaction wrote than the version which the store holds, and that say the same.
-- Grain: source row.
-- Parameters: none.
select
    stage.key,
    stage.row_xid
from stage
inner join standing as s using (key)
where s.row_xid <> stage.row_xid
and stage.key not in (select key from changed_rows)
order by stage.key
