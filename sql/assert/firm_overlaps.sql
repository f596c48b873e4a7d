-- Pairs of firm live allocations that hold one resource of one restaurant at once: the documented daily validation.
-- Grain: pair of allocations.
-- Parameters: none.
with newest as (
    select *
    from raw_allocations
    qualify row_number() over (partition by key order by capture_id desc) = 1
),

firm as (
    select
        n.key,
        n.restaurant_id,
        n.resource_type,
        n.resource_id,
        w."window",
        w.lower_pos,
        w.upper_pos
    from newest as n
    inner join windows as w using (window_text)
    anti join vanished as gone
        on gone.relation = 'allocations'
        and gone.key = n.key
        and gone.capture_id > n.capture_id
    where not try_cast(n.shadow as boolean)
)

select
    a.restaurant_id,
    a.resource_type,
    a.resource_id,
    a.key as allocation_id,
    a."window",
    b.key as other_allocation_id,
    b."window" as other_window
from firm as a
inner join firm as b
    on b.restaurant_id = a.restaurant_id
    and b.resource_type = a.resource_type
    and b.resource_id = a.resource_id
    and b.lower_pos <= a.upper_pos
    and a.lower_pos <= b.upper_pos
    and b.key > a.key
order by a.restaurant_id, a.resource_type, a.resource_id, allocation_id, other_allocation_id
