-- The allocations of each check's own snapshot, typed; entries that cannot be decoded are in quarantine instead.
-- Grain: check × allocation in its snapshot.
-- Parameters: none.
select
    s.check_id,
    l.item_no,
    e.* exclude (entry_no, problem, entry_bytes, raw)
from snapshots as s
inner join snapshot_listing as l using (check_no)
inner join snapshot_entries as e using (entry_no)
where e.problem is null
