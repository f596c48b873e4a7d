-- Every row of a raw relation, hashed, in the order in which the hashes of a block's rows are hashed together. The first form of
-- the manifest hashed the rows' texts themselves. A row outside all blocks stands under no block.
-- Grain: version.
-- Parameters: row_by_row: false for the first form; version_rows has the rows as texts, block_ranges the blocks.
with told as (
    select
        capture_id,
        key,
        if($row_by_row, sha256(row_text), row_text) as row_hash
    from version_rows
)

select
    t.capture_id,
    if(t.key <= b.last_key, b.block_no, null) as block_no,
    t.row_hash
from told as t
asof left join block_ranges as b
    on b.capture_id = t.capture_id
    and b.first_key <= t.key
order by t.capture_id, t.key, t.row_hash
