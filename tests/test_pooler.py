"""Through a transaction pooler: nothing is left in a session, nothing is prepared under a name, one connection is enough."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from adbc_driver_postgresql import dbapi
from pooler import pooler
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from test_capture import fill, pull, run
from test_custody import NEW, differences, verify

from analysis import lab, transport

SESSION = r"\b(prepare|deallocate|listen|unlisten|discard|declare|load|temp|temporary|pg_advisory\w*|set\s+(?!local\b)\w+)\b"


def test_one_transaction_and_nothing_beside_it(
    system: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by libpq's own trace of what was sent; a backend that tells another number than the pooler is read over one."""
    fill(system)
    monkeypatch.setattr(transport, "_BULK_ROWS", 1)
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 0)
    monkeypatch.setattr(dbapi, "connect", lambda *_, **__: pytest.fail("a second connection"))
    connect = psycopg.connect
    trace = tmp_path / "trace"
    with trace.open("w") as file:

        def traced(*arguments: Any, **named: Any) -> psycopg.Connection:
            connection = connect(*arguments, **named)
            connection.pgconn.trace(file.fileno())
            return connection

        monkeypatch.setattr(psycopg, "connect", traced)
        pull(system, store)
    # The first field in quotes of a Parse is the name of what it prepares.
    told = trace.read_text()
    assert set(re.findall(r'\tF\t\d+\tParse\t "(.*?)"', told)) == {""}
    sent = re.findall(r'\tF\t\d+\t(?:Query\t|Parse\t "") "(.*?)"(?: 0)?\n\d{4}-', told, re.DOTALL)
    texts = [re.sub(r"--[^\n]*|'(?:[^']|'')*'", "''", text.lower()) for text in sent]
    assert len(texts) > 30
    assert [text for text in texts if re.search(SESSION, text)] == []
    # Where a standby stands is asked before the snapshot is taken; all else is one transaction.
    assert [text for text in texts if re.match(r"begin|commit|rollback$", text)] == [texts[1], texts[-1]]
    assert texts[-1] == "rollback"


@pytest.fixture
def pooled(system: str) -> Iterator[str]:
    """Yield the DSN of the system by way of a pooler that has one connection to it, lent for a transaction at a time."""
    parts = conninfo_to_dict(system)
    with pooler(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}") as folder:
        yield make_conninfo(system, host=folder, port=5432)


@pytest.mark.parametrize("bulk_rows", [1, 5000])
def test_a_pool_of_one_connection(
    pooled: str, system: str, store: Path, bulk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_BULK_ROWS", bulk_rows)
    fill(system)
    assert pull(pooled, store)["checks"] == (4, 4, 0, 0)
    run(system, NEW, "new")
    assert pull(pooled, store)["restaurants"] == (4, 1, 0, 0)
    assert verify(store) == set()
    assert differences(store, pooled) == differences(store, system) == []
    # Nothing of ours is left to the next client that the connection is lent to.
    with psycopg.connect(lab.reader_dsn(pooled)) as conn:
        left = "select current_setting('row_security'), current_setting('timezone'), count(*) from pg_prepared_statements"
        assert conn.execute(left.encode()).fetchall() == [("on", "Asia/Kolkata", 0)]
