-- Entries of one list that tell different things of one id: which of them holds, nobody knows. One told twice is told once.
-- Grain: check × place in the list.
-- Parameters: none.
with usable as (
    select
        entry_no,
        -- A number for each id.
        min(entry_no) over (partition by allocation_id) as id_no
    from snapshot_entries
    where problem is null
    -- An id of which all checks together know one entry only cannot differ anywhere.
    qualify count(*) over (partition by allocation_id) > 1
),

listed as (
    select
        unnest(i.places) as place,
        entry_no,
        u.id_no
    from snapshot_items as i
    inner join usable as u using (entry_no)
),

differing as (
    select
        place // 16777216 as check_no,
        id_no
    from listed
    group by all
    having min(entry_no) <> max(entry_no)
)

select
    l.place // 16777216 as check_no,
    l.place % 16777216 as item_no,
    l.entry_no
from listed as l
semi join differing as d
    on d.check_no = l.place // 16777216
    and d.id_no = l.id_no
order by l.place
