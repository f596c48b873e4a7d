-- The rows of a source that differ from the newest versions a store holds, and in what way.
-- Grain: source row.
-- Parameters: in_flight: the writers that the last capture could not see yet; held and there have the hashes of the two sides.
select
    coalesce(h.key, t.key) as key,
    case
        when t.key is null then 'vanished'
        when h.key is not null then 'changed'
        when list_contains(string_split($in_flight, ','), t.row_xid) then 'late'
        else 'new'
    end as problem
from held as h
full join there as t
    on t.key = h.key
where t.content_hash is distinct from h.content_hash
order by problem, key
