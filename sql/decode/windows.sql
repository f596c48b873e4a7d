-- Every window that occurs as text in the evidence, decoded exactly and once; lower_pos and upper_pos order bounds.
-- Grain: distinct window text.
-- Parameters: none.
with texts as (
    select window_text from snapshot_items
    union
    select window_text from named_rivals
    union
    select requested_text from snapshots
    union
    select scope_text from snapshots
    union
    select unnest(attempted).window_text from snapshots
    union
    select window_text from raw_allocations
    union
    select window_text from logged
    union
    select window_text from holds
    union
    select window_text from raw_allocations_archive
),

-- Two forms are read: PostgreSQL's range text, and an object with a key for either bound, half-open, as JavaScript
-- writers leave it. Both keys must be there, null for no bound: an object of other keys is not a window without bounds. Where
-- another pair, or another key, says something of the bounds as well, it is not for us to choose.
named as (
    select
        window_text,
        case
            when window_text[1] = '{' then list_filter(
                [['start', 'end'], ['start_at', 'end_at'], ['startAt', 'endAt'], ['window_start', 'window_end']],
                lambda pair : list_has_all(json_keys(try_cast(window_text as json)), pair)
            )
        end as pairs,
        if(
            len(pairs) = 1
            and not list_bool_or(list_transform(
                json_keys(try_cast(window_text as json)), lambda name : regexp_matches(name, '(?i)bound|incl|_inc$')
            )),
            pairs[1],
            null
        ) as fields
    from texts
    where window_text is not null
),

said as (
    select
        *,
        json_extract_string(if(fields is null, null, window_text), '$.' || fields[1]) as lower_said,
        json_extract_string(if(fields is null, null, window_text), '$.' || fields[2]) as upper_said
    from named
),

split as (
    select
        window_text,
        window_text = 'empty' as said_empty,
        case
            when fields is not null then {
                'lower_bracket': '[',
                -- Null is no bound; empty text is nothing that could be read.
                'lower': coalesce(if(lower_said = '', 'nothing', lower_said), ''),
                'upper': coalesce(if(upper_said = '', 'nothing', upper_said), ''),
                'upper_bracket': ')'
            }
            else regexp_extract(
                window_text,
                '^([\[(])("[^"]+"|[^",]*),("[^"]+"|[^",]*)([\])])$',
                ['lower_bracket', 'lower', 'upper', 'upper_bracket']
            )
        end as part
    from said
),

bounds as (
    select
        window_text,
        said_empty,
        part.lower_bracket <> '' as is_range,
        part.lower_bracket = '[' as lower_bracket_inc,
        part.upper_bracket = ']' as upper_bracket_inc,
        trim(part.lower, '"') as lower_text,
        trim(part.upper, '"') as upper_text,
        -- In the style SQL the writer's order of day and month shows only where one of the two bounds has a day past the 12th.
        regexp_extract(concat_ws(' ', lower_text, upper_text), '(1[3-9]|2\d|3[01])/\d\d/\d{4}') <> '' as day_leads,
        regexp_extract(concat_ws(' ', lower_text, upper_text), '\d\d/(1[3-9]|2\d|3[01])/\d{4}') <> '' as month_leads
    from split
),

-- The other styles of DateStyle, rewritten as ISO: German, SQL, and Postgres in both orders.
restyled as (
    select
        * exclude (lower_text, upper_text),
        list_transform([lower_text, upper_text], lambda bound : case
            when bound = '' or bound[5] = '-' then bound
            when bound[3] = '.'
                then regexp_replace(bound, '^(\d\d)\.(\d\d)\.(\d{4,6}) ([\d:.]+) ?(.*)$', '\3-\2-\1 \4 \5')
            when bound[3] = '/' and (day_leads and not month_leads or bound[1:2] = bound[4:5])
                then regexp_replace(bound, '^(\d\d)/(\d\d)/(\d{4,6}) ([\d:.]+) ?(.*)$', '\3-\2-\1 \4 \5')
            when bound[3] = '/' and month_leads and not day_leads
                then regexp_replace(bound, '^(\d\d)/(\d\d)/(\d{4,6}) ([\d:.]+) ?(.*)$', '\3-\1-\2 \4 \5')
            when bound[4] = ' ' and bound[5] between '0' and '9' and list_contains(months, bound[8:10])
                then regexp_replace(
                    bound, '^\w{3} (\d\d) \w{3} ([\d:.]+) (\d{4,6}) ?(.*)$',
                    '\3-' || lpad(list_position(months, bound[8:10])::varchar, 2, '0') || '-\1 \2 \4'
                )
            when bound[4] = ' ' and list_contains(months, bound[5:7])
                then regexp_replace(
                    bound, '^\w{3} \w{3} (\d\d) ([\d:.]+) (\d{4,6}) ?(.*)$',
                    '\3-' || lpad(list_position(months, bound[5:7])::varchar, 2, '0') || '-\1 \2 \4'
                )
            else bound
        end) as texts
    from bounds
    cross join (
        select ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as months
    )
),

-- These styles end with the zone's abbreviation. Only those count that mean one offset wherever they are used: IST, CST or
-- PST may be any of several.
zoned as (
    select
        * exclude (texts),
        list_transform(texts, lambda bound : case
            when bound = '' or bound[-3:-3] in ('+', '-') or bound[-1] not between 'A' and 'Z' then bound
            else regexp_replace(
                bound, ' ([A-Z]{3,4})( BC)?$',
                coalesce(offsets[regexp_extract(bound, ' ([A-Z]{3,4})( BC)?$', 1)], ' unclear') || '\2'
            )
        end) as texts
    from restyled
    cross join (
        select map {
            'UTC': '+00', 'GMT': '+00', 'WET': '+00', 'WEST': '+01', 'BST': '+01', 'CET': '+01', 'CEST': '+02', 'EET': '+02',
            'EEST': '+03', 'SAST': '+02', 'EAT': '+03', 'JST': '+09', 'HKT': '+08', 'AWST': '+08', 'ACST': '+09:30',
            'ACDT': '+10:30', 'AEST': '+10', 'AEDT': '+11', 'NZST': '+12', 'NZDT': '+13', 'AST': '-04', 'ADT': '-03',
            'EST': '-05', 'EDT': '-04', 'MST': '-07', 'MDT': '-06', 'PDT': '-07', 'AKST': '-09', 'AKDT': '-08', 'HST': '-10'
        } as offsets
    )
),

-- Only instants with an offset are read: a bound without one would silently be taken for UTC.
instants as (
    select
        * exclude (texts, places),
        texts[1] as lower_text,
        texts[2] as upper_text,
        places[1] as window_lower,
        places[2] as window_upper
    from (
        select
            *,
            list_transform(texts, lambda bound : case
                when regexp_full_match(
                    bound,
                    '\d{4,6}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)? ?(Z|[+-]\d\d(:?\d\d(:\d\d)?)?)( BC)?'
                ) then try_cast(
                    if(
                        bound[-3:] = ' BC',
                        regexp_replace(bound, '^(\d+-\d\d-\d\d)[ T]([\d:.]+) ?(.*) BC$', '\1 (BC) \2\3'),
                        replace(replace(bound, ' +', '+'), ' -', '-')
                    ) as timestamptz
                )
            end) as places
        from zoned
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
),

printed as (
    select
        *,
        -- The years before the first as PostgreSQL prints them.
        regexp_replace(window_lower::varchar, '^(\d+-\d\d-\d\d) \(BC\) (.*)$', '\1 \2 BC') as lower_printed,
        regexp_replace(window_upper::varchar, '^(\d+-\d\d-\d\d) \(BC\) (.*)$', '\1 \2 BC') as upper_printed
    from judged
)

select
    window_text,
    case
        when problem is not null then null
        when is_empty then 'empty'
        else
            if(lower_inc, '[', '(')
            || coalesce('"' || lower_printed || '"', lower_text)
            || ','
            || coalesce('"' || upper_printed || '"', upper_text)
            || if(upper_inc, ']', ')')
    end as "window",
    -- Python and polars know the years 1 to 9999, in some zones a day less; other instants are in the text and the place only.
    case
        when problem is null and not is_empty
        and window_lower between '0001-01-02 00:00:00+00'::timestamptz and '9999-12-30 23:59:59.999999+00'::timestamptz
            then window_lower
    end as window_lower,
    case
        when problem is null and not is_empty
        and window_upper between '0001-01-02 00:00:00+00'::timestamptz and '9999-12-30 23:59:59.999999+00'::timestamptz
            then window_upper
    end as window_upper,
    case when problem is null and not is_empty then lower_inc end as lower_inc,
    case when problem is null and not is_empty then upper_inc end as upper_inc,
    case when problem is null then is_empty end as is_empty,
    case when problem is null and not is_empty then lower_place + if(lower_inc, 0, 1) end as lower_pos,
    case when problem is null and not is_empty then upper_place - if(upper_inc, 0, 1) end as upper_pos,
    problem
from printed
order by window_text
