-- The versions that are compared with what is at the source now, hashed.
-- Grain: source row.
-- Parameters: none; version_rows has the versions as texts, compared says which ones count.
select
    v.key,
    sha256(v.row_text) as content_hash
from version_rows as v
semi join compared as c
    on c.key = v.key
    and c.capture_id = v.capture_id
order by v.key
