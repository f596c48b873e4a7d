"""A large store for the benchmarks: raw rows as captures would have left them, written by DuckDB alone.

1000 restaurants of 100 tables. On a restaurant's day 20 bookings are confirmed one after the other, by 17 checks of which
each lists the day's 20 allocations: consecutive snapshots repeat what has not changed, as real ones do.
"""

from pathlib import Path

from analysis import constraint, manifest, stores

CHECKS_A_DAY, ROWS = 17, 20

_SCRIPT = """
set TimeZone = 'UTC';
set preserve_insertion_order = false;
create macro id_of(kind, n) as md5(kind || n)::uuid::varchar;
create macro instant(us) as strftime(make_timestamp(us), '%Y-%m-%d %H:%M:%S') || '+00';
create macro between_(a, b) as '[\\"' || instant(a) || '\\",\\"' || instant(b) || '\\")';

create table captures as select 1 as capture_id, '2026-12-01 00:00:00+00'::timestamptz as captured_at,
    'bench' as role, '18' as server_version, 'bench' as database, '1:1:' as snapshot, null::varchar as in_flight,
    false as standby, 'audit' as shape, null::varchar as tenant, '' as chain_hash;
create table capture_relations (capture_id integer, relation varchar, rows_read bigint, rows_new bigint,
    rows_changed bigint, rows_vanished bigint, rows_rescued bigint);
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

-- Booking j of a restaurant's day sits at table j % 10 in slot j // 10, of two hours; it is firm from check j on.
create table days as
    select d as day_no, d % 1000 as r, 1763200000000000 + 86400000000 * (d // 1000) as day_us
    from range($days) as t (d);
create table raw_allocations as
    select 1 as capture_id, id_of('allocation', day_no * $rows + j) as key, id_of('booking', day_no * $rows + j) as booking_id,
        id_of('restaurant', r) as restaurant_id, 'table' as resource_type, id_of('table', r * 100 + j % 10) as resource_id,
        replace(between_(day_us + (j // 10) * 7200000000, day_us + (j // 10 + 1) * 7200000000), '\\', '') as window_text,
        'false' as shadow, 'false' as is_maintenance,
        instant(day_us - 86400000000 + j * 60000000) as created_at, instant(day_us - 86400000000 + j * 60000000) as updated_at,
        null::varchar as created_by
    from days, range($rows) as t (j);
create table raw_allocations_archive as select *, null::varchar as archived_at from raw_allocations limit 0;
delete from days where day_no >= $checked_days;

create table listed as
    select day_no, list(entry order by j) as held, list(replace(entry, 'true', 'false') order by j) as firm
    from (
        select day_no, j, format(
            '{{"id": "{}", "shadow": true, "window": "{}", "booking_id": "{}", "created_at": "{}", "updated_at": "{}", '
            '"resource_id": "{}", "restaurant_id": "{}", "resource_type": "table", "is_maintenance": false}}',
            id_of('allocation', day_no * $rows + j),
            between_(day_us + (j // 10) * 7200000000, day_us + (j // 10 + 1) * 7200000000),
            id_of('booking', day_no * $rows + j), instant(day_us - 86400000000 + j * 60000000),
            instant(day_us - 86400000000 + j * 60000000), id_of('table', r * 100 + j % 10), id_of('restaurant', r)) as entry
        from days, range($rows) as t (j)
    )
    group by day_no;
create table raw_checks (
    capture_id integer, key varchar, booking_id varchar, confirmed varchar,
    conflict_details varchar using compression zstd, checked_at varchar, snapshot_data varchar using compression zstd
);
insert into raw_checks
    select 1, (day_no * $checks_a_day + k)::varchar, id_of('booking', day_no * $rows + k), (k < 16)::varchar,
        case when k = 16 then '{"sqlstate": "23P01", "constraint": "allocations_no_overlap", "message": "m"}' end,
        instant(day_us - 86400000000 + k * 60000000 + 30000000),
        format(
            '{{"rule": "allocations_no_overlap", "scope": {{"window": "{}", "restaurant_id": "{}"}}, '
            '"request": {{"window": "{}", "hold_id": "{}", "table_ids": ["{}"], "booking_id": "{}", '
            '"restaurant_id": "{}"}}, "version": 12, "allocations": [{}], "capacities": []}}',
            between_(day_us, day_us + 86400000000), id_of('restaurant', r),
            between_(day_us + (k // 10) * 7200000000 - if(k = 16, 3600000000, 0), day_us + (k // 10 + 1) * 7200000000),
            id_of('hold', day_no * $rows + k), id_of('table', r * 100 + k % 10), id_of('booking', day_no * $rows + k),
            id_of('restaurant', r), array_to_string(list_concat(firm[1:k], held[k + 1:]), ', '))
    from days inner join listed using (day_no), range($checks_a_day) as t (k);
drop table listed;
drop table days
"""


def make(store: Path, *, checks: int, allocations: int) -> None:
    """Write raw rows of about so many checks and live allocations into a new store file."""
    store.parent.mkdir(parents=True, exist_ok=True)
    store.unlink(missing_ok=True)
    checked_days = checks // CHECKS_A_DAY
    used = {
        "days": max(checked_days, allocations // ROWS),
        "checked_days": checked_days,
        "rows": ROWS,
        "checks_a_day": CHECKS_A_DAY,
    }
    with stores.open_to_write(store) as con:
        for statement in _SCRIPT.split(";\n"):
            con.execute(statement, {name: value for name, value in used.items() if f"${name}" in statement}).fetchall()
        rule = {"rule": constraint.RULES["v12"].name, "definition": constraint.RULES["v12"].definition}
        con.execute("insert into raw_rules values (1, $rule, $definition)", rule).fetchall()
        # What has come since, a capture adds to an older store in the same way.
        manifest.prepare(con)
        stores.lay_out(con, {})
