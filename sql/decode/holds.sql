-- The newest version of every hold that a capture found; a confirmed one is deleted, so these were not, or not yet.
-- Grain: hold.
-- Parameters: none.
with newest as (
    select *
    from raw_table_holds
    where strlen(document) <= 16777216
    qualify row_number() over (partition by key order by capture_id desc) = 1
),

parsed as (
    select
        *,
        try(from_json(
            document,
            '{
                "booking_id": "VARCHAR", "restaurant_id": "VARCHAR", "status": "VARCHAR", "created_at": "VARCHAR",
                "expires_at": "VARCHAR", "window": "VARCHAR"
            }'
        )) as hold
    from newest
)

select
    p.key as hold_id,
    p.hold.booking_id as booking_id,
    p.hold.restaurant_id as restaurant_id,
    p.hold.status as status,
    coalesce(
        p.hold."window",
        json_object('start_at', p.document -> '$.start_at', 'end_at', p.document -> '$.end_at')::varchar
    ) as window_text,
    try_cast(p.hold.created_at as timestamptz) as created_at,
    try_cast(p.hold.expires_at as timestamptz) as expires_at,
    min(k.captured_at) as gone_by
from parsed as p
left join vanished as v
    on v.relation = 'table_holds'
    and v.key = p.key
    and v.capture_id > p.capture_id
left join captures as k
    on k.capture_id = v.capture_id
group by all
order by hold_id
