-- Every distinct entry of the snapshots' lists, typed, or with the problem for which it cannot be used.
-- Grain: distinct entry.
-- Parameters: none.
with judged as (
    select
        i.*,
        case
            when i.allocation_id is null then 'entry is not an allocation with an id'
            when i.lacks_a_column then 'entry lacks a column that a rule compares'
            when w.problem is not null then w.problem
            when i.shadow_text is not null and try_cast(i.shadow_text as boolean) is null then 'shadow is not a boolean'
        end as problem,
        w.* exclude (window_text, is_empty, problem)
    from snapshot_items as i
    left join windows as w using (window_text)
)

select
    entry_no,
    allocation_id,
    booking_id,
    restaurant_id,
    resource_type,
    resource_id,
    "window",
    window_lower,
    window_upper,
    lower_inc,
    upper_inc,
    lower_pos,
    upper_pos,
    try_cast(shadow_text as boolean) as shadow,
    try_cast(is_maintenance_text as boolean) as is_maintenance,
    try_cast(created_at_text as timestamptz) as created_at,
    try_cast(updated_at_text as timestamptz) as updated_at,
    problem,
    strlen(entry::varchar) as entry_bytes,
    if(problem is not null, entry::varchar, null) as raw
from judged
order by entry_no
