-- What could not be decoded, with the reason and the raw text; the good rows around it are used.
-- Grain: raw row, or entry of a list inside one.
-- Parameters: none.
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

select distinct
    'checks' as relation,
    said.check_id as key,
    null as item_no,
    said.what || ': ' || w.problem as reason,
    w.window_text as raw
from (
    select check_id, 'requested window' as what, requested_text as window_text from snapshots
    union all
    select check_id, 'scope' as what, scope_text as window_text from snapshots
    union all
    select check_id, 'attempted window' as what, unnest(attempted).window_text as window_text from snapshots
) as said
inner join windows as w using (window_text)
where w.problem is not null

union all

select
    'snapshot allocations' as relation,
    s.check_id as key,
    l.item_no,
    e.problem as reason,
    e.raw
from snapshot_entries as e
inner join snapshot_listing as l using (entry_no)
inner join snapshots as s using (check_no)
where e.problem is not null

union all

select
    'snapshot allocations' as relation,
    s.check_id as key,
    d.item_no,
    'id is listed twice, with different content' as reason,
    json_extract(r.snapshot_data, '$.allocations[' || d.item_no - 1 || ']')::varchar as raw
from snapshot_duplicates as d
inner join snapshots as s using (check_no)
inner join raw_checks as r
    on r.key = s.check_id
    and r.capture_id = s.capture_id

union all

select distinct
    said.relation,
    said.key,
    null as item_no,
    w.problem as reason,
    w.window_text as raw
from (
    select source as relation, key, window_text from logged
    union all
    select 'table_holds' as relation, hold_id as key, window_text from holds
) as said
inner join windows as w using (window_text)
where w.problem is not null

union all

select
    relation,
    key,
    null as item_no,
    'document is longer than 16 MiB' as reason,
    document as raw
from (
    select 'capacity_outbox' as relation, key, document from raw_capacity_outbox
    union
    select 'audit_logs' as relation, key, document from raw_audit_logs
    union
    select 'table_holds' as relation, key, document from raw_table_holds
)
where strlen(document) > 16777216

union all

select distinct
    'allocations' as relation,
    a.key,
    null as item_no,
    w.problem as reason,
    a.window_text as raw
from (
    select key, window_text from raw_allocations
    union all
    select key, window_text from raw_allocations_archive
) as a
inner join windows as w using (window_text)
where w.problem is not null

order by all
