"""Five million lookups played at a hundred TTLs under both policies: measure.ttl_curve beside numpy's sort of the same pairs.

Two sets: lookups as the lab has them, three in ten a repeat of the request; and a fifth of them of a thousand heavy keys, up to
two thousand lookups each. Ours is end to end, from the store's ``lookups`` to the frame. The sort is that of the packed (key,
instant), what any method that sorts pays at least, and of the same run. Medians of three fresh processes, taken in turns.

Run as ``python tests/bench/bench_cache.py [LOOKUPS]`` in the environment of ``make bench``; data is kept in build/bench.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import metadata
from pathlib import Path
from statistics import median
from time import perf_counter

import duckdb
import numpy as np

from analysis import measure

DATA = Path(__file__).parents[2] / "build" / "bench"
SETS = {"as in the lab": 0.0, "heavy keys": 0.2}
LOOKUPS = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdecimal() else 5_000_000
TTLS_S = tuple(float(ttl) for ttl in np.geomspace(1, 50 * 86400, 100))
ROUNDS = 3

# Two months; a key's lookups are seconds to weeks apart, one in a hundred failed. Of heavy keys the k-th has some 2 k lookups.
PLANTED = """
    create table lookups as
    with asked as (
        select
            i,
            case
                when i < $heavy * $rows then -1 - floor(1000 * sqrt(hash(i, 1) % 1000000 / 1000000))::bigint
                else (hash(i, 3) % ($rows * 13 // 10))::bigint
            end as key
        from range($rows) as t(i)
    ),

    timed as (
        select
            i,
            key,
            make_timestamptz(1763200000000000 + (
                case
                    when key < 0 then hash(i, 4) % 5184000000000
                    else hash(key, 5) % 5184000000000 + (10 ** (4 + hash(i, 6) % 8000 / 1000.0))::bigint
                end
            )::bigint) as checked_at
        from asked
    ),

    numbered as (
        select
            *,
            row_number() over (order by checked_at, i) as lookup_no
        from timed
    )

    select
        lookup_no,
        'audit' as shape,
        checked_at,
        min(lookup_no) over (partition by key) as request_no,
        request_no as booking_no,
        hash(i, 7) % 100 = 0 as failed,
        if(hash(i, 8) % 6 = 0, 'refused', 'confirmed') as recorded_verdict
    from numbered
    order by lookup_no
"""


def store(name: str) -> Path:
    return DATA / f"cache_{name.replace(' ', '_')}_{LOOKUPS}.duckdb"


def prepare(name: str) -> None:
    if store(name).exists():
        return
    with closing(duckdb.connect(store(name))) as con:
        con.execute("set TimeZone = 'UTC'")
        con.execute(PLANTED, {"rows": LOOKUPS, "heavy": SETS[name]})


def sort(name: str) -> Callable[[], int]:
    with closing(duckdb.connect(store(name), read_only=True)) as con:
        read = con.sql("select request_no as key, epoch_us(checked_at) // 1000000 as at from lookups").fetchnumpy()
    packed = (read["key"].astype(np.int64) << 32) + (read["at"] - read["at"].min())
    return lambda: len(np.sort(packed))


def curve(name: str) -> Callable[[], int]:
    con = duckdb.connect(store(name), read_only=True)
    return lambda: len(measure.ttl_curve(con, TTLS_S))


METHODS = {"numpy sort": sort, "ttl_curve": curve}


def ask(method: str, name: str) -> tuple[float, float]:
    """Measure in a fresh process; return seconds and peak memory in GB."""
    command = [sys.executable, __file__, str(LOOKUPS), method, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def run(method: str, name: str) -> None:
    question = METHODS[method](name)
    began = perf_counter()
    question()
    seconds = perf_counter() - began
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps([seconds, int(peak) / 1e6]))


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {metadata.version(name)}" for name in ("duckdb", "numpy", "polars")))
    for name in SETS:
        prepare(name)
        with closing(duckdb.connect(store(name), read_only=True)) as con:
            [(keys, longest)] = con.execute(
                "select count(*), max(n) from (select count(*) as n from lookups group by request_no)"
            ).fetchall()
        print(f"\n{name}: {LOOKUPS:,} lookups of {keys:,} keys, up to {longest:,} of one, {len(TTLS_S)} TTLs, both policies")
        measured: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
        for _ in range(ROUNDS):
            for method, runs in measured.items():
                runs.append(ask(method, name))
        sort_s = median(seconds for seconds, _ in measured["numpy sort"])
        for method, runs in measured.items():
            seconds = median(seconds for seconds, _ in runs)
            print(f"{method:<12}{seconds:>8.2f} s{seconds / sort_s:>8.1f} x sort{max(peak for _, peak in runs):>8.1f} GB")


if __name__ == "__main__":
    if sys.argv[2:]:
        run(*sys.argv[2:])
    else:
        main()
