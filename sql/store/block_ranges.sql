-- The versions that one capture added to a raw relation, cut into blocks of a thousand by key.
-- Grain: block.
-- Parameters: capture_id: the capture; version_rows has its rows.
with numbered as (
    select
        capture_id,
        key,
        (row_number() over (order by key) - 1) // 1000 as block_no
    from version_rows
    where capture_id = $capture_id
)

select
    capture_id,
    block_no,
    min(key) as first_key,
    max(key) as last_key
from numbered
group by capture_id, block_no
order by block_no
