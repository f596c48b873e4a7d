-- Which check's snapshot lists which entry, but for those that contradict another of the same list.
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
anti join snapshot_duplicates as d
    on d.check_no = listed.place // 16777216
    and d.item_no = listed.place % 16777216
order by place
