-- Every distinct entry of the snapshots' lists of allocations, still as text: consecutive snapshots mostly repeat each
-- other, so that each entry is decoded once, however many list it.
-- Grain: distinct entry.
-- Parameters: none.
with listed as (
    select
        s.check_no,
        json_extract(r.snapshot_data, '$.allocations[*]') as entries
    from raw_checks as r
    inner join snapshots as s
        on s.check_id = r.key
        and s.capture_id = r.capture_id
    where s.snapshot_problem is null
    and s.has_snapshot
),

distinct_entries as (
    select
        entry,
        list(check_no * 16777216 + item_no) as places
    from (
        select check_no, unnest(entries) as entry, generate_subscripts(entries, 1) as item_no
        from listed
    )
    group by entry
),

parsed as (
    select
        *,
        from_json(
            entry,
            '{
                "id": "VARCHAR", "booking_id": "VARCHAR", "restaurant_id": "VARCHAR", "resource_type": "VARCHAR",
                "resource_id": "VARCHAR", "window": "JSON", "shadow": "VARCHAR", "is_maintenance": "VARCHAR",
                "created_at": "VARCHAR", "updated_at": "VARCHAR"
            }'
        ) as item,
        json_keys(entry) as keys
    from distinct_entries
)

select
    -- The first place that lists it.
    list_min(places) as entry_no,
    entry,
    places,
    -- PostgreSQL compares uuids, not their spelling.
    coalesce(if(are_uuids, try_cast(item.id as uuid)::varchar, null), item.id) as allocation_id,
    coalesce(if(are_uuids, try_cast(item.booking_id as uuid)::varchar, null), item.booking_id) as booking_id,
    coalesce(if(are_uuids, try_cast(item.restaurant_id as uuid)::varchar, null), item.restaurant_id) as restaurant_id,
    item.resource_type as resource_type,
    coalesce(if(are_uuids, try_cast(item.resource_id as uuid)::varchar, null), item.resource_id) as resource_id,
    case
        -- A list would read like a closed range once it is text.
        when json_type(item."window") = 'ARRAY' then 'list ' || item."window"::varchar
        when list_contains(keys, 'window') then json_extract_string(item."window", '$')
        -- Two fields of the entry say the bounds.
        when list_has_any(keys, ['start', 'start_at', 'startAt', 'window_start']) then entry::varchar
    end as window_text,
    item.shadow as shadow_text,
    item.is_maintenance as is_maintenance_text,
    item.created_at as created_at_text,
    item.updated_at as updated_at_text,
    -- A compared column that is null passes the rule, one that was not written may hold anything.
    not (
        list_has_all(keys, ['restaurant_id', 'resource_type', 'resource_id', 'shadow'])
        and (list_contains(keys, 'window') or window_text is not null)
    ) as lacks_a_column
from parsed
cross join ids
order by entry_no
