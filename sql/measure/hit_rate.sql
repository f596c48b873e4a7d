-- How the lookups came out, group by group.
-- Grain: group with at least one lookup.
-- Parameters: by: one of day, restaurant, hour, lead, verdict and repeat; outcomes holds how each lookup came out.
with grouped as (
    select
        o.*,
        l.booking_id,
        l.repeat,
        case $by
            when 'day' then l.checked_at::date::varchar
            when 'restaurant' then coalesce(r.label, l.restaurant_id, 'unknown')
            when 'hour' then coalesce(lpad(l.local_hour::varchar, 2, '0') || ':00', 'unknown')
            when 'verdict' then l.recorded_verdict
            when 'repeat' then l.repeat
            when 'lead' then case
                when l.lead_s is null then 'unknown'
                when l.lead_s < 0 then 'already begun'
                when l.lead_s < 86400 then 'under 1 day'
                when l.lead_s < 3 * 86400 then '1 to 3 days'
                when l.lead_s < 7 * 86400 then '3 to 7 days'
                when l.lead_s < 14 * 86400 then '7 to 14 days'
                when l.lead_s < 30 * 86400 then '14 to 30 days'
                else '30 days or more'
            end
        end as label,
        if($by = 'lead', l.lead_s, 0) as place
    from outcomes as o
    inner join lookups as l using (lookup_no)
    left join restaurants as r using (restaurant_id)
),

-- Each booking once, however often it asks.
booked as (
    select
        label,
        -- Sums of fractions depend on their order.
        avg(rate order by rate) as hit_rate_by_booking,
        count(*) as bookings
    from (
        select label, booking_id, avg(hit::int) as rate
        from grouped
        group by label, booking_id
    )
    group by label
)

select
    g.label,
    count(*) as lookups,
    count(*) filter (g.hit) as hits,
    count(*) filter (g.hit) / count(*) as hit_rate,
    count(*) filter (g.hit and not g.uncertain) / count(*) as hit_rate_low,
    count(*) filter (g.hit or g.uncertain) / count(*) as hit_rate_high,
    any_value(b.bookings) as bookings,
    any_value(b.hit_rate_by_booking) as hit_rate_by_booking,
    count(*) filter (g.hit and g.repeat = 'retry') as retry_hits,
    count(*) filter (g.outcome = 'stale hit') as stale_hits,
    count(*) filter (g.outcome = 'first check') as first_checks,
    count(*) filter (g.outcome = 'cold miss') as cold_misses,
    count(*) filter (g.outcome = 'expired miss') as expired_misses,
    count(*) filter (g.outcome = 'error') as errors
from grouped as g
inner join booked as b using (label)
group by g.label
order by min(g.place), g.label
