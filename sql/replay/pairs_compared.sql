-- The pairs that a rule refuses and those that the rules now in force refuse, each pair once, with who refuses it.
-- Grain: pair of allocations.
-- Parameters: knows: false where a rule now in force cannot be replayed; pair_rows holds the pairs of either, told apart by in_force.
select
    allocation_id,
    other_allocation_id,
    bool_or(not in_force) as refused,
    if($knows, bool_or(in_force), null) as refused_in_force,
    any_value(booking_id) as booking_id,
    any_value(other_booking_id) as other_booking_id,
    any_value(restaurant_id) as restaurant_id,
    any_value(other_restaurant_id) as other_restaurant_id,
    any_value(resource_type) as resource_type,
    any_value(resource_id) as resource_id,
    any_value("window") as "window",
    any_value(other_window) as other_window,
    any_value(shadow) as shadow,
    any_value(other_shadow) as other_shadow
from pair_rows
group by allocation_id, other_allocation_id
order by allocation_id, other_allocation_id
