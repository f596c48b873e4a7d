-- The newest version of every check's evidence, its JSON taken apart once; only the list of allocations is left to the next.
-- In the idempotency shape the row itself says what was asked for, and there is nothing else.
-- Grain: check.
-- Parameters: none.
with newest as (
    select
        shape,
        key,
        max(capture_id) as capture_id,
        row_number() over (order by shape, key) as check_no
    from (
        select 'audit' as shape, key, capture_id from raw_checks
        union all
        select 'idempotency' as shape, key, capture_id from raw_confirmations
    )
    group by shape, key
),

-- A document is parsed whole, in forty times its own memory at worst. What is longer than any restaurant's day, or looks like
-- nothing but brackets, is not tried; no short one is worth the look.
weighed as (
    select
        r.*,
        case
            when strlen(snapshot_data) > 16777216 then 'is longer than 16 MiB'
            when strlen(snapshot_data) > 65536 and regexp_matches(snapshot_data, '(?:[\[{]\s*(?:"[^"\\]*"\s*:\s*)?){100}')
                then 'is nested deeper than 100 levels'
        end as snapshot_too_much,
        case
            when strlen(conflict_details) > 16777216 then 'is longer than 16 MiB'
            when strlen(conflict_details) > 65536
            and regexp_matches(conflict_details, '(?:[\[{]\s*(?:"[^"\\]*"\s*:\s*)?){100}')
                then 'is nested deeper than 100 levels'
        end as conflict_too_much
    from raw_checks as r
),

parsed as (
    select
        newest.check_no,
        r.key as check_id,
        r.capture_id,
        r.booking_id,
        r.confirmed,
        r.checked_at,
        strlen(r.snapshot_data) as snapshot_bytes,
        strlen(r.conflict_details) as conflict_bytes,
        r.snapshot_too_much,
        r.conflict_too_much,
        if(r.snapshot_too_much is null, r.snapshot_data, null) as snapshot_data,
        if(r.conflict_too_much is null, r.conflict_details, null) as conflict_details,
        try(from_json(
            if(r.snapshot_too_much is null, r.snapshot_data, null),
            '{
                "version": "VARCHAR", "rule": "VARCHAR", "request": "JSON", "scope": "JSON",
                "capacities": [{
                    "table_id": "VARCHAR", "restaurant_id": "VARCHAR", "capacity": "VARCHAR",
                    "min_party_size": "VARCHAR", "max_party_size": "VARCHAR"
                }],
                "allocations": ["BOOLEAN"]
            }'
        )) as snapshot,
        try(from_json(
            if(r.conflict_too_much is null, r.conflict_details, null),
            '{
                "sqlstate": "VARCHAR", "constraint": "VARCHAR", "message": "VARCHAR", "detail": "VARCHAR",
                "attempted": ["JSON"]
            }'
        )) as conflict
    from weighed as r
    inner join newest
        on newest.shape = 'audit'
        and newest.key = r.key
        and newest.capture_id = r.capture_id
),

said as (
    select
        *,
        -- The list's entries are no booleans, but where there is a list one null stands for each, and that costs nothing.
        -- Only where there is none, the document is read once more for what else it may be.
        if(snapshot.allocations is null, try(json_type(snapshot_data, ['$', '$.allocations'])), ['OBJECT', 'ARRAY']) as types,
        try(json_type(conflict_details)) as conflict_type,
        from_json(
            snapshot.request,
            '{"hold_id": "VARCHAR", "restaurant_id": "VARCHAR", "table_ids": ["VARCHAR"]}'
        ) as request,
        from_json(snapshot.scope, '{"restaurant_id": "VARCHAR"}') as scope,
        -- A window has a key of its own, or two fields of the object say its bounds.
        list_transform(
            list_concat([snapshot.request, snapshot.scope], conflict.attempted),
            lambda place : case
                when json_type(place, '$.window') = 'ARRAY' then 'list ' || json_extract(place, '$.window')::varchar
                when json_type(place, '$.window') is not null then json_extract_string(place, '$.window')
                when list_has_any(json_keys(place), ['start', 'start_at', 'startAt', 'window_start']) then place::varchar
            end
        ) as windows
    from parsed
)

select
    check_no,
    check_id,
    'audit' as shape,
    capture_id,
    booking_id,
    confirmed,
    checked_at,
    case
        when snapshot_too_much is not null then 'snapshot ' || snapshot_too_much
        when snapshot_data is null then null
        when types is null then 'snapshot is not JSON'
        when types[1] = 'NULL' then null
        when types[1] <> 'OBJECT' then 'snapshot is not an object'
        when types[2] is null then 'snapshot has no allocations'
        when types[2] <> 'ARRAY' then 'allocations is not a list'
    end as snapshot_problem,
    case
        when conflict_too_much is not null then 'conflict_details ' || conflict_too_much
        when conflict_details is null then null
        when conflict_type is null then 'conflict_details is not JSON'
        when conflict_type not in ('OBJECT', 'NULL') then 'conflict_details is not an object'
    end as conflict_problem,
    coalesce(types[1] <> 'NULL', snapshot_bytes is not null) as has_snapshot,
    coalesce(len(snapshot.allocations), 0) as snapshot_allocations,
    coalesce(snapshot_bytes, 0) as snapshot_bytes,
    coalesce(conflict_bytes, 0) as conflict_bytes,
    coalesce(request.restaurant_id, scope.restaurant_id) as restaurant_id,
    scope.restaurant_id as scope_restaurant_id,
    request.hold_id as hold_id,
    null as idempotency_key,
    request.table_ids as table_ids,
    windows[1] as requested_text,
    windows[2] as scope_text,
    snapshot.capacities as capacities,
    conflict.sqlstate as sqlstate,
    conflict."constraint" as constraint_name,
    conflict.message as message,
    conflict.detail as detail,
    list_transform(conflict.attempted, lambda place, n : {
        'resource_type': json_extract_string(place, '$.resource_type'),
        'resource_id': json_extract_string(place, '$.resource_id'),
        'window_text': windows[n + 2]
    }) as attempted
from said

union all by name

select
    newest.check_no,
    r.key as check_id,
    'idempotency' as shape,
    r.capture_id,
    r.booking_id,
    'true' as confirmed,
    r.created_at as checked_at,
    false as has_snapshot,
    0 as snapshot_allocations,
    0 as snapshot_bytes,
    0 as conflict_bytes,
    r.restaurant_id,
    r.hold_id,
    r.idempotency_key,
    from_json(r.table_ids, '["VARCHAR"]') as table_ids,
    r.window_text as requested_text
from raw_confirmations as r
inner join newest
    on newest.shape = 'idempotency'
    and newest.key = r.key
    and newest.capture_id = r.capture_id
order by check_no
