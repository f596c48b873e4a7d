-- Lookups and what a cache without expiry would have answered of them, by day in UTC.
-- Grain: day with at least one lookup.
-- Parameters: none.
select
    checked_at::date as day,
    count(*) as lookups,
    count(gap_s) as hits,
    count(gap_s) / count(*) as hit_rate
from lookups
group by day
order by day
