-- What a raw relation holds in the place of each block, hashed. Rows are hashed one by one before they are hashed together, which
-- needs no room for them all; the first form of the manifest did without. Rows outside all blocks stand under no block.
-- Grain: block.
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
    count(*) as rows,
    sha256(string_agg(t.row_hash, '' order by t.key, t.row_hash)) as content_hash
from told as t
asof left join block_ranges as b
    on b.capture_id = t.capture_id
    and b.first_key <= t.key
group by all
order by t.capture_id, block_no
