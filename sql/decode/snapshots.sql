-- The newest version of every check's evidence, its JSON taken apart once; every later relation reads this one.
-- Grain: check.
-- Parameters: none.
with newest as (
    select
        key as check_id,
        capture_id,
        booking_id,
        confirmed,
        checked_at,
        snapshot_data,
        conflict_details,
        try_cast(snapshot_data as json) as snapshot_json,
        try_cast(conflict_details as json) as conflict_json
    from raw_checks
    qualify row_number() over (partition by key order by capture_id desc) = 1
)

select
    check_id,
    capture_id,
    booking_id,
    confirmed,
    checked_at,
    case
        when snapshot_data is null then null
        when snapshot_json is null then 'snapshot is not JSON'
        when json_type(snapshot_json) = 'NULL' then null
        when json_type(snapshot_json) <> 'OBJECT' then 'snapshot is not an object'
        when json_type(snapshot_json, '$.allocations') is null then 'snapshot has no allocations'
        when json_type(snapshot_json, '$.allocations') <> 'ARRAY' then 'allocations is not a list'
    end as snapshot_problem,
    case
        when conflict_details is null then null
        when conflict_json is null then 'conflict_details is not JSON'
        when json_type(conflict_json) not in ('OBJECT', 'NULL') then 'conflict_details is not an object'
    end as conflict_problem,
    coalesce(strlen(snapshot_data), 0) as snapshot_bytes,
    coalesce(strlen(conflict_details), 0) as conflict_bytes,
    from_json(
        snapshot_json,
        '{
            "version": "VARCHAR",
            "rule": "VARCHAR",
            "request": {
                "hold_id": "VARCHAR", "booking_id": "VARCHAR", "restaurant_id": "VARCHAR",
                "table_ids": ["VARCHAR"], "window": "JSON"
            },
            "scope": {"restaurant_id": "VARCHAR", "window": "JSON"},
            "allocations": [{
                "id": "VARCHAR", "booking_id": "VARCHAR", "restaurant_id": "VARCHAR", "resource_type": "VARCHAR",
                "resource_id": "VARCHAR", "window": "JSON", "shadow": "VARCHAR", "is_maintenance": "VARCHAR",
                "created_at": "VARCHAR", "updated_at": "VARCHAR"
            }],
            "capacities": [{
                "table_id": "VARCHAR", "restaurant_id": "VARCHAR", "capacity": "VARCHAR",
                "min_party_size": "VARCHAR", "max_party_size": "VARCHAR"
            }]
        }'
    ) as snapshot,
    from_json(
        conflict_json,
        '{
            "sqlstate": "VARCHAR", "constraint": "VARCHAR", "message": "VARCHAR", "detail": "VARCHAR",
            "attempted": [{"resource_type": "VARCHAR", "resource_id": "VARCHAR", "window": "JSON"}]
        }'
    ) as conflict
from newest
order by check_id
