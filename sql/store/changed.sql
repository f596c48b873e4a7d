-- The rows just read that the store does not hold in this version, each new or changed in place. Which transaction wrote a row,
-- and how many bytes a value takes up where it is stored, is no part of what it says.
-- Grain: source row.
-- Parameters: none.
select
    stage.*,
    key not in (select key from all_versions) as is_new
from stage
where key in (
    select key
    from (
        select columns(lambda name : name <> 'row_xid' and not ends_with(name, '_stored_bytes')) from stage
        except
        select columns(lambda name : name <> 'row_xid' and not ends_with(name, '_stored_bytes')) from held_rows
    ) as differing
)
order by key
