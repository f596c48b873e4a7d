-- Whether ids are uuids, which PostgreSQL compares whatever their spelling, or texts, which it compares as they are written.
-- Grain: one row.
-- Parameters: none.
with types as (
    select unnest(
        regexp_extract_all(source_columns, '(?:^|, )(?:id|booking_id|restaurant_id|resource_id) (\w+)', 1)
    ) as type_name
    from capture_relations
    where relation = 'allocations'
)

-- Where nobody recorded the types, they are the documented ones.
select not coalesce(bool_or(type_name not in ('uuid', 'bigint', 'integer', 'smallint')), false) as are_uuids
from types
