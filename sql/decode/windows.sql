-- Every window that occurs as text in the evidence, decoded exactly and once; lower_pos and upper_pos order bounds.
-- Grain: distinct window text.
-- Parameters: none.
with texts as (
    select window_text from snapshot_items
    union
    select window_text from named_rivals
    union
    select json_extract_string(snapshot.request."window", '$') from snapshots
    union
    select json_extract_string(snapshot.scope."window", '$') from snapshots
    union
    select json_extract_string(unnest(conflict.attempted)."window", '$') from snapshots
    union
    select window_text from raw_allocations
    union
    select window_text from raw_allocations_archive
),

-- Two forms are read: PostgreSQL's range text, and {"start": …, "end": …}, half-open, as JavaScript writers leave it.
-- Both keys must be there, null for no bound: an object of other keys is not a window without bounds.
split as (
    select
        window_text,
        window_text = 'empty' as said_empty,
        case
            when list_has_all(json_keys(try_cast(window_text as json)), ['start', 'end']) then {
                'lower_bracket': '[',
                'lower': coalesce(json_extract_string(window_text, '$.start'), ''),
                'upper': coalesce(json_extract_string(window_text, '$.end'), ''),
                'upper_bracket': ')'
            }
            else regexp_extract(
                window_text,
                '^([\[(])("[^"]+"|[^",]*),("[^"]+"|[^",]*)([\])])$',
                ['lower_bracket', 'lower', 'upper', 'upper_bracket']
            )
        end as part
    from texts
    where window_text is not null
),

bounds as (
    select
        window_text,
        said_empty,
        part.lower_bracket <> '' as is_range,
        part.lower_bracket = '[' as lower_bracket_inc,
        part.upper_bracket = ']' as upper_bracket_inc,
        trim(part.lower, '"') as lower_text,
        trim(part.upper, '"') as upper_text
    from split
),

-- Only ISO instants with an offset are read: a bound without one would silently be taken for UTC.
instants as (
    select
        *,
        case when regexp_full_match(lower_text, iso) then try_cast(lower_text as timestamptz) end as window_lower,
        case when regexp_full_match(upper_text, iso) then try_cast(upper_text as timestamptz) end as window_upper
    from (
        select
            *,
            '\d{4,6}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d(:\d\d)?)?)' as iso
        from bounds
    )
),

-- A bound's place on the line, times four so that an exclusive bound sits just beside an inclusive one. The value
-- infinity lies beyond every instant, and no bound at all lies beyond infinity: [t,infinity) is not [t,).
places as (
    select
        *,
        case
            when lower_text = '' then -1000000000000000000000000000000
            when lower_text = '-infinity' then -100000000000000000000000000000
            when lower_text = 'infinity' then 100000000000000000000000000000
            else epoch_us(window_lower)::hugeint * 4
        end as lower_place,
        case
            when upper_text = '' then 1000000000000000000000000000000
            when upper_text = '-infinity' then -100000000000000000000000000000
            when upper_text = 'infinity' then 100000000000000000000000000000
            else epoch_us(window_upper)::hugeint * 4
        end as upper_place,
        lower_bracket_inc and lower_text <> '' as lower_inc,
        upper_bracket_inc and upper_text <> '' as upper_inc
    from instants
),

judged as (
    select
        *,
        case
            when said_empty then null
            when not is_range then 'window is not a range'
            when lower_place is null or upper_place is null then 'window bound is not an instant with an offset'
            when lower_place > upper_place then 'window ends before it begins'
        end as problem,
        said_empty or (lower_place = upper_place and not (lower_inc and upper_inc)) as is_empty
    from places
)

select
    window_text,
    case
        when problem is not null then null
        when is_empty then 'empty'
        else
            if(lower_inc, '[', '(')
            || coalesce('"' || window_lower::varchar || '"', lower_text)
            || ','
            || coalesce('"' || window_upper::varchar || '"', upper_text)
            || if(upper_inc, ']', ')')
    end as "window",
    -- Python and polars end with the year 9999, in some zones a day before; later instants are in the text and the place only.
    case
        when problem is null and not is_empty and window_lower < '9999-12-31 00:00:00+00'::timestamptz then window_lower
    end as window_lower,
    case
        when problem is null and not is_empty and window_upper < '9999-12-31 00:00:00+00'::timestamptz then window_upper
    end as window_upper,
    case when problem is null and not is_empty then lower_inc end as lower_inc,
    case when problem is null and not is_empty then upper_inc end as upper_inc,
    case when problem is null then is_empty end as is_empty,
    case when problem is null and not is_empty then lower_place + if(lower_inc, 0, 1) end as lower_pos,
    case when problem is null and not is_empty then upper_place - if(upper_inc, 0, 1) end as upper_pos,
    problem
from judged
order by window_text
