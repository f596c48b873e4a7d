"""A large store for the benchmarks: raw rows as a capture would have left them, written by DuckDB alone.

1000 restaurants of 100 tables. On a restaurant's day 20 bookings are confirmed one after the other, by 17 checks of which
each lists the day's 20 allocations: consecutive snapshots repeat what has not changed, as real ones do.
"""

from pathlib import Path

import duckdb

from analysis.model import RULES

CHECKS_A_DAY = 17
ROWS = 20

_SCRIPT = """
set TimeZone = 'UTC';
create macro id_of(kind, n) as md5(kind || n)[1:8] || '-' || md5(kind || n)[9:12] || '-4' || md5(kind || n)[14:16] || '-a'
    || md5(kind || n)[18:20] || '-' || md5(kind || n)[21:32];
create macro instant(us) as strftime(make_timestamp(us), '%Y-%m-%d %H:%M:%S') || '+00';

create table captures as select 1 as capture_id, '2026-03-01 00:00:00+00'::timestamptz as captured_at,
    'bench' as role, '18' as server_version, 'bench' as database, '1:1:' as snapshot, false as standby, 'audit' as shape;
create table capture_relations (capture_id integer, relation varchar, rows_read bigint, rows_new bigint,
    rows_changed bigint, rows_vanished bigint);
create table vanished (capture_id integer, relation varchar, key varchar);
create table raw_restaurants as
    select 1 as capture_id, id_of('restaurant', r) as key, 'Restaurant ' || r as name, 'Europe/London' as timezone
    from range(1000) as t (r);
create table raw_tables as
    select 1 as capture_id, id_of('table', r * 100 + n) as key, id_of('restaurant', r) as restaurant_id,
        n::varchar as table_number, (2 + n % 6)::varchar as capacity, '1' as min_party_size, '8' as max_party_size,
        'main' as section, 'true' as active
    from range(1000) as t (r), range(100) as u (n);
create table raw_rules (capture_id integer, key varchar, definition varchar);

-- Booking j of a restaurant's day sits at table j % 10 in slot j // 10, two hours each; it is firm after check j.
create table days as
    select d as day_no, d % 1000 as r, 1763200000000000 + 86400000000 * (d // 1000) as day_us
    from range($days) as t (d);
create table raw_allocations as
    select 1 as capture_id, id_of('allocation', day_no * $rows + j) as key, id_of('booking', day_no * $rows + j) as booking_id,
        id_of('restaurant', r) as restaurant_id, 'table' as resource_type, id_of('table', r * 100 + j % 10) as resource_id,
        '["' || instant(day_us + (j // 10) * 7200000000) || '","' || instant(day_us + (j // 10 + 1) * 7200000000) || '")'
            as window_text,
        'false' as shadow, 'false' as is_maintenance,
        instant(day_us - 86400000000 + j * 60000000) as created_at, instant(day_us - 86400000000 + j * 60000000) as updated_at,
        null::varchar as created_by
    from days, range($rows) as t (j)
    order by key;
create table raw_allocations_archive as select *, null::varchar as archived_at from raw_allocations limit 0;
"""

_CHECKS = """
create table raw_checks as
with listed as (
    select d.day_no, k, d.r, d.day_us,
        string_agg(format(
            '{{"id": "{}", "shadow": {}, "window": "[\\"{}\\",\\"{}\\")", "booking_id": "{}", "created_at": "{}", '
            '"updated_at": "{}", "resource_id": "{}", "restaurant_id": "{}", "resource_type": "table", '
            '"is_maintenance": false}}',
            id_of('allocation', d.day_no * $rows + j), j >= k,
            instant(d.day_us + (j // 10) * 7200000000), instant(d.day_us + (j // 10 + 1) * 7200000000),
            id_of('booking', d.day_no * $rows + j), instant(d.day_us - 86400000000 + j * 60000000),
            instant(d.day_us - 86400000000 + if(j >= k, 0, j * 60000000)), id_of('table', d.r * 100 + j % 10),
            id_of('restaurant', d.r)), ', ' order by j) as allocations
    from days as d, range($checks_a_day) as t (k), range($rows) as u (j)
    group by all
)
select 1 as capture_id, (day_no * $checks_a_day + k)::varchar as key, id_of('booking', day_no * $rows + k) as booking_id,
    case when k = 16 then 'false' else 'true' end as confirmed,
    case when k = 16 then '{"sqlstate": "23P01", "constraint": "allocations_no_overlap", "message": "m", "detail": null, '
        || '"attempted": []}' end as conflict_details,
    instant(day_us - 86400000000 + k * 60000000 + 30000000) as checked_at,
    format('{{"rule": "allocations_no_overlap", "scope": {{"window": "[\\"{}\\",\\"{}\\")", "restaurant_id": "{}"}}, '
        '"request": {{"window": "[\\"{}\\",\\"{}\\")", "hold_id": "{}", "table_ids": ["{}"], "booking_id": "{}", '
        '"restaurant_id": "{}"}}, "version": 12, "allocations": [{}], "capacities": []}}',
        instant(day_us), instant(day_us + 86400000000), id_of('restaurant', r),
        instant(day_us + (k // 10) * 7200000000 - if(k = 16, 3600000000, 0)), instant(day_us + (k // 10 + 1) * 7200000000),
        id_of('hold', day_no * $rows + k), id_of('table', r * 100 + k % 10), id_of('booking', day_no * $rows + k),
        id_of('restaurant', r), allocations) as snapshot_data
from listed
order by day_no, k
"""


def make(store: Path, *, checks: int, allocations: int) -> None:
    """Write raw rows of about so many checks and live allocations into a new store file."""
    store.parent.mkdir(parents=True, exist_ok=True)
    store.unlink(missing_ok=True)
    days = checks // CHECKS_A_DAY
    with duckdb.connect(str(store)) as con:
        con.execute("set preserve_insertion_order = false")
        for statement in _SCRIPT.split(";\n"):
            used = {"days": max(days, allocations // ROWS), "rows": ROWS}
            if statement.strip():
                con.execute(statement, {name: used[name] for name in used if f"${name}" in statement})
        con.execute(
            "insert into raw_rules values (1, $rule, $definition)",
            {"rule": RULES["v12"].name, "definition": RULES["v12"].definition},
        )
        con.execute("delete from days where day_no >= $days", {"days": days})
        con.execute(_CHECKS, {"rows": ROWS, "checks_a_day": CHECKS_A_DAY})
        con.execute("drop table days")
