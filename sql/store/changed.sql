-- The rows just read that the store does not hold in this version, and whether it ever held the row at all. Which transaction
-- wrote a row, and how well the server compresses it, may change while what it says does not.
-- Grain: source row.
-- Parameters: none; held and staged have the hashes of the two sides, stage the rows, all_versions every key ever held.
with differing as (
    select key
    from staged
    anti join held using (key, content_hash)
)

select
    stage.*,
    stage.key not in (select v.key from all_versions as v semi join differing using (key)) as is_new
from stage
semi join differing using (key)
order by key
