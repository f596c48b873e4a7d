"""A million checks of 20 rows each among ten million allocations: how fast a store is derived, and how fast one is explained.

Decoding and replay are told in megabytes of snapshot JSON a second, beside DuckDB's json_valid over the same column, which
parses every byte and keeps nothing: the raw limit. Each figure is of a fresh process, under a memory limit of 3 GB.

Run as ``python tests/bench/bench_replay.py [CHECKS]`` in the environment of ``make bench``; data is kept in build/bench.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import duckdb
import evidence

import analysis
from analysis import query, stores

DATA = Path(__file__).parents[2] / "build" / "bench"
CHECKS = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdecimal() else 1_000_000


@contextmanager
def opened(store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with stores.open_to_write(store) as con:
        con.execute("set memory_limit = '3GB'")
        yield con


def valid(store: Path) -> None:
    """Print how long DuckDB takes to validate the JSON, and its megabytes."""
    with opened(store) as con:
        started = perf_counter()
        [(size,)] = con.execute("select sum(strlen(snapshot_data)) from raw_checks where json_valid(snapshot_data)").fetchall()
        print(perf_counter() - started, size / 1e6)


def derive(store: Path) -> None:
    """Derive every relation and print the seconds of each stage, and the peak memory in GB."""
    seconds: dict[str, float] = {}
    materialise = query.materialise

    def timed(con: duckdb.DuckDBPyConnection, name: str, /, kind: query.Kind = "table") -> None:
        started = perf_counter()
        materialise(con, name, kind)
        seconds[name] = perf_counter() - started

    query.materialise = timed
    with opened(store) as con:
        analysis.derive(con)
    for name, taken in seconds.items():
        print(name, taken)
    # Not getrusage: its figure is inherited from the process that started this one.
    [peak] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    print("peak", int(peak) / 1e6)


def run(what: str, store: Path) -> list[list[str]]:
    """Run one of the functions above in a process of its own; return the words of each line."""
    command = [sys.executable, __file__, what, str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def explained(store: Path, check_id: int) -> float:
    """Return the seconds from a shell's view of ``forensics explain``."""
    started = perf_counter()
    command = [sys.executable, "-m", "analysis", "explain", str(check_id), "--store", str(store)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"Check {check_id} ")
    return perf_counter() - started


def main() -> None:
    raw, derived = DATA / f"evidence_{CHECKS}.duckdb", DATA / f"derived_{CHECKS}.duckdb"
    if not raw.exists():
        evidence.make(raw, checks=CHECKS, allocations=10 * CHECKS)
    shutil.copy(raw, derived)
    [[limit, megabytes]] = run("valid", raw)
    *stages, [_, peak] = run("derive", derived)
    seconds = {name: float(taken) for name, taken in stages}
    print(f"{CHECKS:,} checks, {10 * CHECKS:,} allocations, {float(megabytes):,.0f} MB of snapshots")
    print(f"json_valid alone      {float(limit):7.1f} s   {float(megabytes) / float(limit):6.0f} MB/s")
    for label, stage in (("decode and replay", ("decode", "replay")), ("decode", ("decode",)), ("replay", ("replay",))):
        taken = sum(seconds[name] for name in seconds if name.partition("/")[0] in stage)
        print(f"{label:<21} {taken:7.1f} s   {float(megabytes) / taken:6.0f} MB/s   {taken / float(limit):.1f} x json_valid")
    rest = sum(seconds[name] for name in seconds if name.partition("/")[0] not in ("decode", "replay"))
    print(f"versions, lookups     {rest:7.1f} s")
    print(f"peak memory           {float(peak):7.1f} GB")
    for name, taken in sorted(seconds.items(), key=lambda item: -item[1])[:6]:
        print(f"  {name:<35} {taken:7.1f} s")
    ids = [n * (CHECKS // 17 // 7) * 17 + 16 for n in range(7)]
    print(f"explain, cold process {median(explained(derived, check_id) for check_id in ids):7.2f} s, median of {len(ids)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["valid"]:
        valid(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["derive"]:
        derive(Path(sys.argv[2]))
    else:
        main()
