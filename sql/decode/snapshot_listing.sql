-- Which check's snapshot lists which entry.
-- Grain: check × place in the list.
-- Parameters: none.
with listed as (
    select
        unnest(places) as place,
        entry_no
    from snapshot_items
)

select
    place // 16777216 as check_no,
    place % 16777216 as item_no,
    entry_no
from listed
order by place
