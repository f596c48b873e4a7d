-- The blocks of a raw relation that do not hold what the manifest says, and the rows that belong to no block.
-- Grain: block.
-- Parameters: none; block_ranges holds the blocks as the manifest has them, found_blocks what stands in their places.
select
    coalesce(b.capture_id, f.capture_id) as capture_id,
    coalesce(b.block_no, f.block_no) as block_no,
    coalesce(b.rows, 0) as rows,
    coalesce(f.rows, 0) as rows_found,
    case
        when b.rows is null then 'rows that no capture read'
        when f.rows is null then 'block is missing'
        when f.rows > b.rows then 'rows were added'
        when f.rows < b.rows then 'rows are missing'
        else 'content was changed'
    end as problem
from block_ranges as b
full join found_blocks as f
    on f.capture_id = b.capture_id
    and f.block_no = b.block_no
where f.content_hash is distinct from b.content_hash
order by capture_id, block_no
