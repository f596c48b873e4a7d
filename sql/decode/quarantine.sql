-- What could not be decoded, with the reason and the raw text; the good rows around it are used.
-- Grain: raw row, or entry of a list inside one.
-- Parameters: none.
with doubtful_items as (
    select
        i.check_id,
        i.item_no,
        i.allocation_id,
        w.problem,
        i.shadow_text is not null and try_cast(i.shadow_text as boolean) is null as shadow_is_bad,
        json_extract(r.snapshot_data, '$.allocations[' || (i.item_no - 1) || ']') as item
    from snapshot_items as i
    inner join snapshots as s using (check_id)
    inner join raw_checks as r
        on r.key = s.check_id
        and r.capture_id = s.capture_id
    left join windows as w using (window_text)
    where i.allocation_id is null
    or w.problem is not null
    or shadow_is_bad
    or i.restaurant_id is null
    or i.resource_type is null
    or i.resource_id is null
    or i.window_text is null
    or i.shadow_text is null
),

-- A compared column that is null passes the rule, one that was not written may hold anything.
bad_items as (
    select
        *,
        case
            when allocation_id is null then 'entry is not an allocation with an id'
            when not list_has_all(json_keys(item), ['restaurant_id', 'resource_type', 'resource_id', 'window', 'shadow'])
                then 'entry lacks a column that a rule compares'
            when problem is not null then problem
            when shadow_is_bad then 'shadow is not a boolean'
        end as reason
    from doubtful_items
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
    check_id as key,
    null as item_no,
    'checked_at is not an instant of the years 2 to 9998' as reason,
    checked_at as raw
from snapshots
where coalesce(year(try_cast(checked_at as timestamptz)) not between 2 and 9998, true)

union all

select
    'checks' as relation,
    said.check_id as key,
    null as item_no,
    said.what || ': ' || w.problem as reason,
    w.window_text as raw
from (
    select check_id, 'requested window' as what, json_extract_string(snapshot.request."window", '$') as window_text
    from snapshots
    union
    select check_id, 'scope' as what, json_extract_string(snapshot.scope."window", '$') as window_text
    from snapshots
    union
    select check_id, 'attempted window' as what, json_extract_string(unnest(conflict.attempted)."window", '$') as window_text
    from snapshots
) as said
inner join windows as w using (window_text)
where w.problem is not null

union all

select
    'snapshot allocations' as relation,
    check_id as key,
    item_no,
    reason,
    item::varchar as raw
from bad_items

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
