-- What the bytes of the snapshots consist of, without the blanks that PostgreSQL prints, and what would be left of the
-- allocations if each distinct one were stored once and every list held eight bytes to refer to it.
-- Grain: key of the snapshot; '(blanks and names)' is the rest, with documents that cannot be read.
-- Parameters: none.
with documents as (
    select
        r.snapshot_data as document,
        if(c.has_snapshot and c.snapshot_problem is null, json_keys(r.snapshot_data), []) as keys
    from raw_checks as r
    inner join checks as c
        on c.check_id = r.key
        and c.capture_id = r.capture_id
    where r.snapshot_data is not null
),

parts as (
    select
        part,
        sum(strlen(json_extract(document, '$."' || replace(part, '"', '\"') || '"')::varchar))::bigint as bytes
    from (select document, unnest(keys) as part from documents)
    group by part
),

listed as (
    select
        coalesce(sum(e.entry_bytes) filter (l.check_no * 16777216 + l.item_no = e.entry_no), 0)::bigint + 8 * count(*)
            as shared_bytes
    from snapshot_listing as l
    inner join snapshot_entries as e using (entry_no)
)

select
    part,
    bytes,
    if(part = 'allocations', (select shared_bytes from listed), bytes) as bytes_if_shared
from (
    from parts
    union all
    select
        '(blanks and names)' as part,
        (select sum(strlen(document)) from documents)::bigint - coalesce(sum(bytes), 0)::bigint as bytes
    from parts
)
where bytes is not null
order by bytes desc, part
