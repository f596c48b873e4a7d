-- What the outbox and the audit log tell of tables that bookings were given, or that were taken back; both logs outlive that.
-- Grain: log entry × table, null where an entry names none.
-- Parameters: none.
with newest as (
    select source, key, document
    from (
        select 'capacity_outbox' as source, * from raw_capacity_outbox
        union all
        select 'audit_logs' as source, * from raw_audit_logs
    )
    where strlen(document) <= 16777216
    -- A row that has only its place for a key is another one once it is written again, and its place another's: it is known
    -- by what it says, but for how far it was worked off.
    qualify row_number() over (
        partition by
            source,
            if(key[1] = '(', coalesce(try(json_merge_patch(document, '{"status": null}'))::varchar, document), key)
        order by capture_id desc, key
    ) = 1
),

entries as (
    select
        source,
        key,
        document,
        try(from_json(
            document,
            '{
                "event_type": "VARCHAR", "action": "VARCHAR", "created_at": "VARCHAR", "restaurant_id": "VARCHAR",
                "booking_id": "VARCHAR", "entity_id": "VARCHAR", "idempotency_key": "VARCHAR", "table_id": "VARCHAR",
                "payload": "JSON", "metadata": "JSON"
            }'
        )) as entry
    from newest
),

said as (
    select
        *,
        case
            when entry.event_type = 'capacity.hold.confirmed' then 'confirmed'
            when entry.event_type = 'capacity.assignment.sync' then 'assigned'
            else lower(nullif(regexp_extract(entry.action, '(?i)(?:^|[^a-z])((?:un)?assigned)$', 1), ''))
        end as event,
        coalesce(entry.payload, entry.metadata) as details,
        try(from_json(
            details,
            '{
                "tableIds": ["VARCHAR"], "table_ids": ["VARCHAR"], "tableId": "VARCHAR", "table_id": "VARCHAR",
                "restaurantId": "VARCHAR", "restaurant_id": "VARCHAR", "bookingId": "VARCHAR", "booking_id": "VARCHAR",
                "holdId": "VARCHAR", "hold_id": "VARCHAR"
            }'
        )) as told
    from entries
),

named as (
    select
        * exclude (told),
        coalesce(entry.restaurant_id, told."restaurantId", told.restaurant_id) as restaurant_id,
        coalesce(entry.booking_id, told."bookingId", told.booking_id, entry.entity_id) as booking_id,
        coalesce(told."holdId", told.hold_id) as hold_id,
        unnest(coalesce(told."tableIds", told.table_ids, [coalesce(told."tableId", told.table_id, entry.table_id)])) as table_id
    from said
    where event is not null
)

select
    source,
    key,
    event,
    try_cast(entry.created_at as timestamptz) as logged_at,
    -- PostgreSQL compares uuids, not their spelling.
    coalesce(if(are_uuids, try_cast(restaurant_id as uuid)::varchar, null), restaurant_id) as restaurant_id,
    coalesce(if(are_uuids, try_cast(booking_id as uuid)::varchar, null), booking_id) as booking_id,
    coalesce(if(are_uuids, try_cast(hold_id as uuid)::varchar, null), hold_id) as hold_id,
    entry.idempotency_key as idempotency_key,
    coalesce(if(are_uuids, try_cast(table_id as uuid)::varchar, null), table_id) as table_id,
    case
        when list_has_all(json_keys(details), ['startAt', 'endAt'])
            then json_object('startAt', details -> '$.startAt', 'endAt', details -> '$.endAt')::varchar
        when list_has_all(json_keys(details), ['start_at', 'end_at'])
            then json_object('start_at', details -> '$.start_at', 'end_at', details -> '$.end_at')::varchar
    end as window_text
from named
cross join ids
order by source, key, table_id
