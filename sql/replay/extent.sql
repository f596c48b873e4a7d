-- What the store covers.
-- Grain: one row.
-- Parameters: none.
select
    count(*) as checks,
    count(distinct restaurant_id) as restaurants,
    min(checked_at) as first_checked_at,
    max(checked_at) as last_checked_at,
    arg_min(check_id, checked_at) as first_check_id,
    arg_max(check_id, checked_at) as last_check_id,
    (select max(captured_at) from captures) as captured_at,
    (select any_value(tenant) from captures) as tenant,
    (select count(*) from quarantine) as quarantined
from checks
