-- Raw rows that are neither decoded nor in quarantine, or both.
-- Grain: raw row, or entry of a list inside one.
-- Parameters: none.
with found as (
    select
        'checks' as relation,
        r.key,
        null as item_no,
        count(c.check_id) as decoded,
        count(q.key) as quarantined
    from (select key from raw_checks union select key from raw_confirmations) as r
    left join checks as c
        on c.check_id = r.key
    left join quarantine as q
        on q.relation = 'checks'
        and q.key = r.key
        and q.reason like 'checked_at %'
    group by r.key

    union all

    select
        'snapshot allocations' as relation,
        i.check_id as key,
        i.item_no,
        count(a.check_id) as decoded,
        count(q.key) as quarantined
    from (
        select check_id, unnest(range(1, snapshot_allocations + 1)) as item_no
        from checks
        where snapshot_problem is null
    ) as i
    left join snapshot_allocations as a using (check_id, item_no)
    left join quarantine as q
        on q.relation = 'snapshot allocations'
        and q.key = i.check_id
        and q.item_no = i.item_no
    group by i.check_id, i.item_no

    union all

    select
        'allocations' as relation,
        r.key,
        null as item_no,
        count(a.allocation_id) as decoded,
        count(q.key) as quarantined
    from (
        select key, window_text from raw_allocations
        union
        select key, window_text from raw_allocations_archive
    ) as r
    left join windows as w using (window_text)
    left join (select distinct allocation_id, "window" from allocation_versions) as a
        on a.allocation_id = r.key
        and a."window" is not distinct from w."window"
        and w.problem is null
    left join quarantine as q
        on q.relation = 'allocations'
        and q.key = r.key
        and q.raw = r.window_text
    group by r.key, r.window_text
)

select *
from found
where decoded + quarantined <> 1
order by relation, key, item_no
