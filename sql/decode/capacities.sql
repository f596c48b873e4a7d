-- The tables and their seats as written with each check.
-- Grain: check × table.
-- Parameters: none.
with listed as (
    select
        check_id,
        unnest(capacities) as table_row
    from snapshots
    where snapshot_problem is null
)

select
    check_id,
    table_row.table_id as table_id,
    table_row.restaurant_id as restaurant_id,
    try_cast(table_row.capacity as integer) as capacity,
    try_cast(table_row.min_party_size as integer) as min_party_size,
    try_cast(table_row.max_party_size as integer) as max_party_size
from listed
where table_row.table_id is not null
order by check_id, table_id
