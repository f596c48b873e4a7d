-- The overlap rules that captures read, each with the first capture that shows it and the first that misses it; and with the
-- first check that was refused by a rule of that name since the capture before, which knew of none.
-- Grain: rule × definition.
-- Parameters: none.
with versions as (
    select
        r.key as rule,
        r.definition,
        r.capture_id,
        lag(r.capture_id) over (partition by r.key order by r.capture_id) as last_capture_id,
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
        ) as missed_in,
        -- Another definition of the name was in force before: which of the two refused a check, the name does not tell.
        v.last_capture_id is not null and not exists (
            from vanished as gone
            where gone.relation = 'rules'
            and gone.key = v.rule
            and gone.capture_id between v.last_capture_id and v.capture_id - 1
        ) as is_another_definition
    from versions as v
)

select
    e.rule,
    e.definition,
    first_seen.captured_at as first_captured_at,
    (
        select min(c.checked_at)
        from checks as c
        where (c.constraint_name = e.rule or c.sqlstate = 'P0001' and c.message = e.rule)
        and not e.is_another_definition
        and c.checked_at < first_seen.captured_at
        and c.checked_at > coalesce(
            (select max(k.captured_at) from captures as k where k.capture_id < e.capture_id), '-infinity'::timestamptz
        )
    ) as first_named_at,
    missed.captured_at as missed_at
from ended as e
inner join captures as first_seen using (capture_id)
left join captures as missed
    on missed.capture_id = e.missed_in
order by e.rule, first_captured_at
