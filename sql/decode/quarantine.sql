-- What could not be decoded, with the reason and the raw text; the good rows around it are used.
-- Grain: raw row, or entry of a list inside one.
-- Parameters: none.
with bad_items as (
    select
        i.check_id,
        i.item_no,
        case
            when i.allocation_id is null then 'entry is not an allocation with an id'
            when w.problem is not null then w.problem
            when i.shadow_text is not null and try_cast(i.shadow_text as boolean) is null then 'shadow is not a boolean'
        end as reason
    from snapshot_items as i
    left join windows as w using (window_text)
    where reason is not null
)

select
    'checks' as relation,
    s.check_id as key,
    null as item_no,
    coalesce(s.snapshot_problem, s.conflict_problem) as reason,
    if(s.snapshot_problem is not null, r.snapshot_data, r.conflict_details) as raw
from snapshots as s
inner join raw_checks as r
    on r.key = s.check_id
    and r.capture_id = s.capture_id
where coalesce(s.snapshot_problem, s.conflict_problem) is not null

union all

select
    'checks' as relation,
    s.check_id as key,
    null as item_no,
    'requested window: ' || w.problem as reason,
    w.window_text as raw
from snapshots as s
inner join windows as w
    on w.window_text = json_extract_string(s.snapshot.request."window", '$')
where w.problem is not null

union all

select
    'snapshot allocations' as relation,
    b.check_id as key,
    b.item_no,
    b.reason,
    json_extract(r.snapshot_data, '$.allocations[' || (b.item_no - 1) || ']')::varchar as raw
from bad_items as b
inner join snapshots as s using (check_id)
inner join raw_checks as r
    on r.key = s.check_id
    and r.capture_id = s.capture_id

union all

select
    'allocations' as relation,
    a.key,
    null as item_no,
    w.problem as reason,
    a.window_text as raw
from (
    select key, window_text from raw_allocations
    union
    select key, window_text from raw_allocations_archive
) as a
inner join windows as w using (window_text)
where w.problem is not null

order by all
