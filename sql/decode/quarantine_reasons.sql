-- How many rows are in quarantine, by reason.
-- Grain: reason.
-- Parameters: none.
select
    reason,
    count(*) as rows
from quarantine
group by reason
order by rows desc, reason
