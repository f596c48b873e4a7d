"""Forensics of booking confirmations: PostgreSQL → raw → facts → state at check time → verdicts → a story, or rates.

store = analysis.open_store("evidence.duckdb")
analysis.checks(store)                          # every check, both verdicts, the cause
analysis.explain_check(store, "4711")           # one check, told
analysis.matrix(store)                          # recorded × replayed × cause
"""

import os
from pathlib import Path

import duckdb
import polars as pl

from analysis import capture, decode, measure, query, reconstruct, replay
from analysis.explain import Explanation
from analysis.model import ForensicsError, StoreError

__all__ = [
    "ForensicsError",
    "changed_under",
    "checks",
    "derive",
    "explain_check",
    "extent",
    "matrix",
    "notebook",
    "open_store",
]


def derive(con: duckdb.DuckDBPyConnection) -> None:
    """Write every relation that follows from the raw ones, in the order of the pipeline."""
    decode.run(con)
    reconstruct.run(con)
    replay.run(con)
    measure.run(con)
    con.execute("create or replace table derivation as select $digest as digest", {"digest": query.digest()})


def open_store(store: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open a store to read: a DuckDB file that a capture wrote, or a folder of Parquet evidence.

    Without an argument it is the one that the environment variable FORENSICS_STORE names, else the committed sample of
    a checkout. Raises StoreError when there is no such store, or it is none.
    """
    path = Path(store or os.environ.get("FORENSICS_STORE") or Path(__file__).parent.parent / "data" / "sample")
    con = capture.connect(path)
    if path.is_dir():
        derive(con)
    elif con.execute("select count(*) from duckdb_tables() where table_name = 'derivation'").fetchall() == [(0,)] or (
        con.execute("select digest from derivation").fetchall() != [(query.digest(),)]
    ):
        con.close()
        raise StoreError(f"{path} was derived by another version of this kit: capture into it again, which derives it anew")
    return con


def notebook(store: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Prepare a notebook and open its store, as :func:`open_store` does.

    Frames are shown with fixed widths and digits; charts still, or live where FORENSICS_CHARTS is ``interactive``.
    """
    from analysis import chart  # Altair takes a second that only notebooks need

    chart.show("interactive" if os.environ.get("FORENSICS_CHARTS") == "interactive" else "still")
    pl.Config(
        tbl_rows=24, tbl_cols=12, tbl_width_chars=140, fmt_str_lengths=64, float_precision=3, tbl_hide_dataframe_shape=True
    )
    return open_store(store)


def extent(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Say what the store covers: one row with counts of checks, restaurants and quarantined rows, first and last instant."""
    return query.frame(con, "replay/extent")


def checks(con: duckdb.DuckDBPyConnection, *, conflicts: bool = False, disagreements: bool = False) -> pl.DataFrame:
    """List the checks with both verdicts, cause and grade, oldest first; only conflicts or disagreements if asked."""
    return query.frame(con, "replay/check_list", conflicts=conflicts, disagreements=disagreements)


def explain_check(con: duckdb.DuckDBPyConnection, check_id: str | int) -> Explanation:
    """Explain one check; raise NotFoundError when the store has no such check."""
    return Explanation(replay.check(con, str(check_id)))


def changed_under(con: duckdb.DuckDBPyConnection, version: str) -> pl.DataFrame:
    """List the checks whose replayed verdict would have been another under the documented rule of this version."""
    with replay.under(con, version):
        return query.frame(con, "replay/changed")


def matrix(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Count the checks by recorded verdict, replayed verdict and cause."""
    return query.frame(con, "replay/matrix")
