"""The only reader of ``sql/``: finds a statement by name, runs it with bound parameters, names a relation after its file."""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import duckdb
import polars as pl

Kind = Literal["table", "temporary table", "view"]


@cache
def _root() -> Path:
    """Return the folder of the statements: inside an installed package, or beside it in a checkout."""
    packaged = Path(str(files("analysis"))) / "sql"
    return packaged if packaged.is_dir() else packaged.parent.parent / "sql"


@cache
def text(name: str) -> str:
    """Return the statement ``folder/stem``.

    >>> text("decode/windows").startswith("-- ")
    True
    """
    return (_root() / f"{name}.sql").read_text(encoding="utf-8")


@cache
def digest() -> str:
    """Return a digest of every statement and module that derives relations: stores with the same one derive the same."""
    statements = sorted(
        path for folder in ("decode", "reconstruct", "replay", "measure") for path in (_root() / folder).glob("*.sql")
    )
    here = Path(str(files("analysis")))
    modules = [here / f"{name}.py" for name in ("constraint", "registry", "decode", "reconstruct", "replay")]
    return sha256(b"".join(path.read_bytes() for path in (*statements, *modules))).hexdigest()


def derived_by_this_version(con: duckdb.DuckDBPyConnection) -> bool:
    """Say whether what a connection shows as ``derivation``, if anything, is of this version of the kit."""
    known = con.execute("select 1 from duckdb_columns() where table_name = 'derivation'").fetchall()
    return bool(known) and con.execute("select digest from derivation").fetchall() == [(digest(),)]


def frame(con: duckdb.DuckDBPyConnection, name: str, /, **parameters: Any) -> pl.DataFrame:
    """Run a DuckDB statement and return its rows; parameters are bound, a missing or excess one raises."""
    found: pl.DataFrame = con.sql(text(name), params=parameters).pl()
    return found


def rows(con: duckdb.DuckDBPyConnection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """Run a DuckDB statement and return one dictionary a row."""
    return frame(con, name, **parameters).to_dicts()


def materialise(con: duckdb.DuckDBPyConnection, name: str, /, kind: Kind = "table") -> None:
    """Write the relation that a statement describes, under the stem of its file.

    A temporary table lives with the connection and hides the stored one of the same name: a question asked of a
    store that is open read-only. A view is computed whenever it is read.
    """
    con.execute(f"create or replace {kind} {name.rpartition('/')[2]} as {text(name)}")
