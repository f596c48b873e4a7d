-- The overlap rules that captures read, each with the first capture that shows it and the first that misses it.
-- Grain: rule × definition.
-- Parameters: none.
with versions as (
    select
        r.key as rule,
        r.definition,
        r.capture_id,
        lead(r.capture_id) over (partition by r.key order by r.capture_id) as next_capture_id
    from raw_rules as r
),

ended as (
    select
        v.*,
        least(
            v.next_capture_id,
            (
                select min(gone.capture_id)
                from vanished as gone
                where gone.relation = 'rules'
                and gone.key = v.rule
                and gone.capture_id > v.capture_id
            )
        ) as missed_in
    from versions as v
)

select
    e.rule,
    e.definition,
    first_seen.captured_at as first_captured_at,
    missed.captured_at as missed_at
from ended as e
inner join captures as first_seen using (capture_id)
left join captures as missed
    on missed.capture_id = e.missed_in
order by e.rule, first_captured_at
