"""All overlapping pairs among ten million windows: sql/replay/pairs.sql beside the plain self-join and interval libraries.

Every figure is the median of three fresh processes, taken in turns, so that the peak memory is the method's own. Libraries
get integer keys and times, already in their own structure; ours reads a store's file. Ratios are to numpy's sort of the
packed keys on the same set and in the same run: what any method that sorts pays at least. It is told as numpy does it on a
processor with vector instructions, four times as fast, and as it does it on any other: shared/design/speed.md has the latter.
A count in brackets is not what ours found.

Run as ``python tests/bench/bench_pairs.py`` in the environment of ``make bench``; data is kept in build/bench.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import import_module, metadata
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import duckdb

from analysis import query

DATA = Path(__file__).parents[2] / "build" / "bench"
RULE = {"equality": ["restaurant_id", "resource_type", "resource_id"], "firm_only": True}
SETS = {"plain, 1 M": 1_000_000, "closures, 1 M": 1_000_000, "plain": 10_000_000, "closures": 10_000_000}
ROUNDS, PATIENCE_S = 3, 300

# A hundred bookings of two hours on each resource, four a day, some touching; one in two thousand begins too late by half an
# hour and so overlaps the next; one in twenty is a hold. With closures, each resource is closed for one day all the same.
PLANTED = """
    create table allocation_versions as
    with bookings as (
        select
            'a' || i as name,
            i // 100 as r,
            timestamptz '2025-10-01 00:00:00+00' + to_days((i % 100 // 4)::int) + to_hours([12, 14, 18, 20][i % 4 + 1])
                + to_minutes(if(hash(i, 7) % 1000 = 0 and i % 2 = 0, 30, 0)) as lower,
            interval 2 hour as length,
            hash(i, 11) % 20 = 0 as shadow
        from range($rows) as t(i)
    ),

    closures as (
        select
            'c' || r as name,
            r,
            timestamptz '2025-10-01 00:00:00+00' + to_days((hash(r, 3) % 25)::int) as lower,
            interval 1 day as length,
            false as shadow
        from range($rows // 100) as t(r)
        where $closures
    )

    select
        md5(name)::uuid as allocation_id,
        if(name[1] = 'a', md5('b' || name)::uuid, null) as booking_id,
        md5('r' || r // 100)::uuid as restaurant_id,
        'table' as resource_type,
        md5('t' || r)::uuid as resource_id,
        '["' || lower || '","' || lower + length || '")' as "window",
        lower as window_lower,
        lower + length as window_upper,
        true as lower_inc,
        false as upper_inc,
        epoch_us(lower)::hugeint * 4 as lower_pos,
        epoch_us(lower + length)::hugeint * 4 - 1 as upper_pos,
        shadow,
        name[1] = 'c' as is_maintenance,
        lower - interval 10 day as created_at,
        lower - interval 9 day as updated_at,
        timestamptz '2025-12-01 00:00:00+00' as first_seen_at,
        timestamptz '2025-12-01 00:00:00+00' as last_seen_at,
        ['archive'] as sources
    from (from bookings union all from closures)
    order by restaurant_id, window_lower, allocation_id
"""

# As libraries want them: firm ones only, resources numbered, half hours since the first day.
INTERVALS = """
    select
        dense_rank() over (order by resource_id)::integer as resource,
        (epoch_us(window_lower) // 1800000000 - 978336)::integer as lower,
        (epoch_us(window_upper) // 1800000000 - 978336)::integer as upper
    from allocation_versions
    where not shadow
"""

SELF_JOIN = """
    select
        a.allocation_id, b.allocation_id as other_allocation_id, a.booking_id, b.booking_id as other_booking_id,
        a.restaurant_id, b.restaurant_id as other_restaurant_id, a.resource_type, a.resource_id,
        a."window", b."window" as other_window, a.shadow, b.shadow as other_shadow
    from allocation_versions as a
    inner join allocation_versions as b
        on b.restaurant_id = a.restaurant_id
        and b.resource_type = a.resource_type
        and b.resource_id = a.resource_id
        and b.lower_pos <= a.upper_pos
        and a.lower_pos <= b.upper_pos
        and b.allocation_id > a.allocation_id
        and greatest(a.updated_at, b.updated_at) <= least(a.last_seen_at, b.last_seen_at)
    where not a.shadow
    and not b.shadow
    order by allocation_id, other_allocation_id
"""


def store(name: str) -> Path:
    return DATA / f"pairs_{name.replace(', ', '_').replace(' ', '')}.duckdb"


def prepare(name: str) -> None:
    """Write a store of one set, and beside it the same windows as bare integers."""
    file = store(name)
    if file.with_suffix(".parquet").exists():
        return
    file.unlink(missing_ok=True)
    with closing(duckdb.connect(file)) as con:
        con.execute("set TimeZone = 'UTC'; set memory_limit = '8GB'")
        con.execute(PLANTED, {"rows": SETS[name], "closures": name.startswith("closures")})
        con.sql(INTERVALS).write_parquet(str(file.with_suffix(".parquet")))


# A method loads what it needs, and returns what is then timed: a question whose answer is a number of pairs.
Question = Callable[[], int | None]


def _intervals(name: str) -> tuple[Any, Any, Any]:
    columns: dict[str, Any] = duckdb.read_parquet(str(store(name).with_suffix(".parquet"))).fetchnumpy()
    return columns["resource"], columns["lower"], columns["upper"]


def numpy_sort(name: str) -> Question:
    np = import_module("numpy")
    resource, lower, _ = _intervals(name)
    # As scattered as hashes are.
    packed = (resource.astype(np.int64) * 2_654_435_761 % 2**31 << 32) + lower

    def sort() -> None:
        np.sort(packed)

    return sort


def ours(name: str) -> Question:
    con = duckdb.connect(store(name), read_only=True)
    return lambda: query.frame(con, "replay/pairs", **RULE).height


def ours_again(name: str) -> Question:
    question = ours(name)
    question()
    return question


def self_join(name: str) -> Question:
    con = duckdb.connect(store(name), read_only=True)
    return lambda: con.sql(SELF_JOIN).pl().height


def _frame(name: str, columns: tuple[str, str, str]) -> Any:
    pd = import_module("pandas")
    return pd.DataFrame(dict(zip(columns, _intervals(name), strict=True)), copy=False)


def pyranges1(name: str) -> Question:
    pr = import_module("pyranges")
    ranges = pr.PyRanges(_frame(name, ("Chromosome", "Start", "End")))
    return lambda: (len(ranges.join_overlaps(ranges)) - len(ranges)) // 2


def bioframe(name: str) -> Question:
    bf = import_module("bioframe")
    frame = _frame(name, ("chrom", "start", "end")).astype({"chrom": "str"})
    return lambda: (len(bf.overlap(frame, frame, how="inner")) - len(frame)) // 2


def polars_bio(name: str) -> Question:
    pb, pl = import_module("polars_bio"), import_module("polars")
    pb.set_option("datafusion.execution.target_partitions", "2")
    resource, lower, upper = _intervals(name)
    frame = pl.DataFrame({"chrom": resource, "start": lower, "end": upper}).cast({"chrom": pl.String})
    frame.config_meta.set(coordinate_system_zero_based=True)
    return lambda: (pb.overlap(frame, frame, output_type="polars.LazyFrame").collect().height - frame.height) // 2


def superintervals(name: str) -> Question:
    si = import_module("superintervals")
    resource, lower, upper = _intervals(name)
    # It knows no keys and closed ends only: all resources on one line, each with as many half hours as all days have.
    begin, end = resource * 1_300 + lower, resource * 1_300 + upper - 1

    def search() -> int:
        index = si.IntervalMap.from_arrays(begin, end)
        return (sum(map(len, index.search_idxs_batch(begin, end))) - len(begin)) // 2

    return search


PLAIN, VECTORS = "numpy sort, any processor", "numpy sort, vectors"
LIBRARIES = ("pyranges1", "bioframe", "polars-bio", "superintervals")
METHODS = {
    PLAIN: numpy_sort,
    VECTORS: numpy_sort,
    "pairs.sql": ours,
    "pairs.sql, asked again": ours_again,
    "self-join": self_join,
    "pyranges1": pyranges1,
    "bioframe": bioframe,
    "polars-bio": polars_bio,
    "superintervals": superintervals,
}


def measure(method: str, name: str) -> None:
    """Ask one question once, and print what it took: run in a process of its own."""
    question = METHODS[method](name)
    began = perf_counter()
    found = question()
    seconds = perf_counter() - began
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps({"seconds": seconds, "pairs": found, "peak_kib": int(peak)}))


def ask(method: str, name: str) -> dict[str, Any]:
    """Measure in a fresh process; where it fails, return the last line it wrote."""
    command = [sys.executable, __file__, method, name]
    # What numpy may choose on this processor and not on every one.
    chosen = " ".join(import_module("numpy._core._multiarray_umath").__cpu_dispatch__)
    env = os.environ | ({"NPY_DISABLE_CPU_FEATURES": chosen} if method == PLAIN else {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {PATIENCE_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(name: str) -> str:
    """Measure every method on one set, in turns, and return a row for each."""
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for _ in range(ROUNDS):
        for method, measured in runs.items():
            if not any("failed" in run for run in measured):
                measured.append(ask(method, name))
    plain_s, vectors_s = (median(run["seconds"] for run in runs[method]) for method in (PLAIN, VECTORS))
    pairs = runs["pairs.sql"][0]["pairs"]
    lines = [
        f"{name}: {SETS[name]:,} bookings",
        f"{'method':<26}{'seconds':>8}{'x any':>7}{'x vectors':>11}{'pairs':>12}{'peak MiB':>10}",
    ]
    for method, measured in runs.items():
        if failed := [run["failed"] for run in measured if "failed" in run]:
            lines.append(f"{method:<26}{failed[0]}")
            continue
        seconds = median(run["seconds"] for run in measured)
        found = {run["pairs"] for run in measured}
        count = "" if found == {None} else f"{pairs:,}" if found == {pairs} else f"({', '.join(map(str, found))})"
        peak = max(run["peak_kib"] for run in measured) // 1024
        ratios = f"{seconds / plain_s:>7.1f}{seconds / vectors_s:>11.1f}"
        lines.append(f"{method:<26}{seconds:>8.2f}{ratios}{count:>12}{peak:>10,}")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:]:
        measure(*sys.argv[1:])
        return
    DATA.mkdir(parents=True, exist_ok=True)
    installed = {found.name: found.version for found in metadata.distributions()}
    versions = (f"{name} {installed.get(name, 'not for this Python')}" for name in ("duckdb", "numpy", *LIBRARIES))
    sys.stdout.write(", ".join(versions) + "\n")
    for name in SETS:
        prepare(name)
        sys.stdout.write(f"\n{table(name)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
