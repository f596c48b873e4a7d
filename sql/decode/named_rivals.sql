-- The existing key that PostgreSQL itself named in the detail of a recorded exclusion violation, taken apart.
-- Grain: check whose detail names an existing key.
-- Parameters: none.
with details as (
    select
        check_id,
        regexp_extract(
            detail,
            '^Key \((.*?)\)=\((.*)\) conflicts with existing key \(.*?\)=\((.*)\)\.$',
            ['columns', 'attempted', 'existing']
        ) as named
    from snapshots
),

split as (
    select
        check_id,
        string_split(named.columns, ', ') as columns,
        regexp_extract(named.existing, '([\[(][^\[(]*[\])])$', 1) as window_text,
        named.existing as existing
    from details
    where named.columns <> ''
),

paired as (
    select
        check_id,
        columns,
        string_split(left(existing, strlen(existing) - strlen(window_text) - 2), ', ') as equal_values,
        window_text
    from split
    where columns[-1] = '"window"'
)

-- A value that holds a comma would shift the others; such a detail is not taken apart.
select
    check_id,
    equal_values[list_position(columns, 'restaurant_id')] as restaurant_id,
    equal_values[list_position(columns, 'resource_type')] as resource_type,
    equal_values[list_position(columns, 'resource_id')] as resource_id,
    window_text
from paired
where len(equal_values) = len(columns) - 1
order by check_id
