-- The nearest neighbour on either side of what a check asked for, on the same resource, and how far away it is.
-- Grain: requested resource × side.
-- Parameters: check_id.
with listed as materialized (
    select * from snapshot_allocations where check_id = $check_id
),

neighbours as (
    select
        a.*,
        t.table_number,
        if(a.upper_pos < q.lower_pos, 'before', 'after') as side,
        if(
            a.upper_pos < q.lower_pos,
            epoch_us(q.window_lower) - epoch_us(a.window_upper),
            epoch_us(a.window_lower) - epoch_us(q.window_upper)
        ) / 1000000 as gap_s
    from requests as q
    inner join checks as c using (check_id)
    inner join listed as a
        on a.restaurant_id = c.restaurant_id
        and a.resource_type = q.resource_type
        and a.resource_id = q.resource_id
        and (a.upper_pos < q.lower_pos or a.lower_pos > q.upper_pos)
        and not a.shadow
        and a.booking_id is distinct from c.booking_id
    left join tables as t
        on t.table_id = a.resource_id
        and a.resource_type = 'table'
    where q.check_id = $check_id
)

select
    allocation_id, booking_id, resource_type, resource_id, table_number,
    "window", window_lower, window_upper, shadow, is_maintenance, updated_at,
    side,
    gap_s
from neighbours
-- What lies beyond all instants, or beyond those that can be told here, is no near miss.
where gap_s is not null
qualify row_number() over (partition by resource_type, resource_id, side order by gap_s, allocation_id) = 1
order by table_number, resource_type, resource_id, side desc
