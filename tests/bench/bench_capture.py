"""Two million narrow allocations, 80,000 checks of 6 kB: how fast they land in a store, beside COPY by psql into nothing.

Raw COPY sends the same columns in the same run, in their own types; what it takes to send them as a capture asks for them, most
as texts, is told as well. Landing is the read of one relation into its raw table in a new store file, committed. A capture does
more: it hashes every row, and compares; it is told apart, first and second. Every figure is of a fresh process.

Run as ``python tests/bench/bench_capture.py [DIVISOR]`` in the environment of ``make bench``, with psql on the path.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

import duckdb
import psycopg
from psycopg.conninfo import make_conninfo

from analysis import capture, lab, query, source, stores, transport

DIVISOR = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdecimal() else 1
ROWS = {"allocations": 2_000_000 // DIVISOR, "checks": 80_000 // DIVISOR}
GOALS = {"allocations": 1.3, "checks": 1.0}
OWN_TYPES = {
    "allocations": 'id, booking_id, restaurant_id, resource_type, resource_id, "window", shadow, is_maintenance, created_at, '
    "updated_at, created_by from allocations",
    "checks": "id, booking_id, confirmed, conflict_details, checked_at, snapshot_data from booking_confirmation_results",
}
FILL = """
insert into restaurants select md5('r' || g)::uuid, 'R' || g, 'UTC' from generate_series(1, 100) as g;
alter table allocations drop constraint allocations_no_overlap;
alter table allocations disable trigger all;
insert into allocations (id, booking_id, resource_type, resource_id, created_at, updated_at, shadow, restaurant_id, "window",
    is_maintenance)
select gen_random_uuid(), gen_random_uuid(), 'table', gen_random_uuid(), now(), now(), false, md5('r' || g % 100 + 1)::uuid,
    tstzrange(now() + g * interval '1 minute', now() + g * interval '1 minute' + interval '2 hours'), false
from generate_series(1, {allocations}) as g;
insert into booking_confirmation_results (booking_id, confirmed, snapshot_data)
select gen_random_uuid(), true, jsonb_build_object('version', 12, 'allocations', (
    select jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'booking_id', gen_random_uuid(), 'resource_type', 'table',
        'restaurant_id', md5('r1'), 'resource_id', gen_random_uuid(), 'window',
        '["2025-11-15 18:00:00+00","2025-11-15 19:30:00+00")', 'shadow', false, 'is_maintenance', false,
        'created_at', now(), 'updated_at', now()))
    from generate_series(1, 15) where g > 0))
from generate_series(1, {checks}) as g
"""


def copy(dsn: str, statement: str) -> float:
    """Return the seconds that psql takes to send the rows of a statement into nothing."""
    started = perf_counter()
    command = ["psql", dsn, "-qc", f"copy ({statement}) to stdout (format binary)"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - started


def land(dsn: str, store: str, relation: str, rows: str) -> None:
    """Read one relation into its raw table in a new store; print seconds and peak memory in MB."""
    started = perf_counter()
    with (
        source.snapshot(dsn) as connection,
        closing(transport.Reader(connection, dsn)) as reader,
        stores.open_to_write(Path(store)) as con,
    ):
        con.execute("set preserve_insertion_order = false; begin")
        stores.lay_out(con, {relation: reader.columns(relation)})
        reader.read(con, stores.table(relation), relation, int(rows), 1)
        con.execute("commit")
    told(started)


def pull(dsn: str, store: str) -> None:
    """Capture, and derive nothing; print seconds and peak memory in MB."""
    started = perf_counter()
    capture.pull(dsn, Path(store), nothing)
    told(started)


def nothing(con: duckdb.DuckDBPyConnection) -> None:
    """Stand in for the derivation, which bench_replay.py measures."""
    con.execute("create or replace table derivation as select $digest as digest", {"digest": query.digest()})


def told(started: float) -> None:
    # Not getrusage: its figure is inherited from the process that started this one.
    [peak] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    print(perf_counter() - started, int(peak) / 1e3)


def run(*words: str) -> tuple[float, float]:
    """Run one of the functions above in a process of its own; return its seconds and megabytes."""
    command = [sys.executable, __file__, *words]
    seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(peak)


def main() -> None:
    if not shutil.which("psql"):
        print("no psql on the path: nothing to compare with")
        return
    with lab.serve() as server, tempfile.TemporaryDirectory() as folder:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute("set synchronous_commit = off")
            for name in ("schema", "migration_up", "reader"):
                conn.execute(query.text(f"postgres/{name}").encode())
            conn.execute(FILL.format(**ROWS).encode())
            conn.execute("vacuum analyze")
        dsn = make_conninfo(lab.reader_dsn(server))
        heads = f"{'raw COPY':>10}{'landed':>10}{'ratio':>8}{'goal':>7}{'as sent':>10}{'ratio':>8}{'peak MB':>9}"
        print(f"{'':<38}{heads}")
        for relation, rows in ROWS.items():
            figures = []
            for attempt in range(3):
                store = f"{folder}/{relation}{attempt}.duckdb"
                raw, (landed, peak) = copy(dsn, f"select {OWN_TYPES[relation]}"), run("land", dsn, store, relation, str(rows))
                figures.append((raw, landed, peak, copy(dsn, transport._statement(relation))))
            raw, landed, peak, sent = (median(column) for column in zip(*figures, strict=True))
            print(
                f"{f'{rows:,} {relation}':<38}{raw:>8.2f} s{landed:>8.2f} s{landed / raw:>8.2f}{GOALS[relation]:>7.1f}"
                f"{sent:>8.2f} s{landed / sent:>8.2f}{peak:>9.0f}"
            )
        for what in ("first capture, hashed, not derived", "second capture, nothing new"):
            seconds, peak = run("pull", dsn, f"{folder}/evidence.duckdb")
            print(f"{what:<38}{'':>10}{seconds:>8.2f} s{'':>33}{peak:>9.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["land"]:
        land(*sys.argv[2:])
    elif sys.argv[1:2] == ["pull"]:
        pull(*sys.argv[2:])
    else:
        main()
