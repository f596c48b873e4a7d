-- The last check that was refused by a rule of this name.
-- Grain: one row.
-- Parameters: rule.
select max(checked_at) as named_at
from checks
where constraint_name = $rule
or sqlstate = 'P0001' and message = $rule
order by named_at
