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

from analysis import causes, decode, explain, query, reconstruct, replay, stores
from analysis.custody import verify
from analysis.model import Check, ForensicsError

__all__ = [
    "ForensicsError",
    "changed_under",
    "checks",
    "derive",
    "explain_causes",
    "explain_check",
    "extent",
    "matrix",
    "notebook",
    "open_store",
    "pairs_under",
    "verify",
]


def derive(con: duckdb.DuckDBPyConnection) -> None:
    """Write every relation that follows from the raw ones, in the order of the pipeline."""
    from analysis import measure  # NumPy takes a tenth of the time in which a check is explained

    decode.run(con)
    reconstruct.run(con)
    replay.run(con)
    measure.run(con)
    con.execute("create or replace table derivation as select $digest as digest", {"digest": query.digest()})


def open_store(store: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open a store to read: a DuckDB file that a capture wrote, or a folder of Parquet evidence.

    Without an argument it is the one that the environment variable FORENSICS_STORE names, else the committed sample of
    a checkout. What another version of this kit derived is derived anew, in memory: evidence outlives its source, and the
    kit; the next capture into the file makes that lasting. Raises StoreError when there is no such store, or it is none.
    """
    path = Path(store or os.environ.get("FORENSICS_STORE") or Path(__file__).parent.parent / "data" / "sample")
    con = stores.connect(path)
    if not path.is_dir():
        if query.derived_by_this_version(con):
            return con
        con.close()
        con = stores.connect_raw(path)
    derive(con)
    return con


def notebook(store: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Prepare a notebook and open its store, as :func:`open_store` does.

    Frames are shown with fixed widths and digits; charts still, or live where FORENSICS_CHARTS is ``interactive``.
    """
    from analysis import canvas  # Altair takes a second that only notebooks need

    canvas.show("interactive" if os.environ.get("FORENSICS_CHARTS") == "interactive" else "still")
    pl.Config(
        tbl_rows=24, tbl_cols=12, tbl_width_chars=140, fmt_str_lengths=120, float_precision=3, tbl_hide_dataframe_shape=True
    )
    return open_store(store)


def extent(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Say what the store covers: one row with counts of checks, restaurants and quarantined rows, first and last instant."""
    return query.frame(con, "replay/extent")


def checks(
    con: duckdb.DuckDBPyConnection, booking_id: str | None = None, *, conflicts: bool = False, disagreements: bool = False
) -> pl.DataFrame:
    """List the checks, or those of one booking, with both verdicts, cause and grade, oldest first.

    Only conflicts or disagreements if asked.
    """
    return query.frame(con, "replay/check_list", booking_id=booking_id, conflicts=conflicts, disagreements=disagreements)


class Explanation:
    """One check, explained: ``data`` for programs, ``str()`` for a terminal, and a block with a timeline in a notebook."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.data = explain.evidence(check)

    def __str__(self) -> str:
        return explain.render_text(self.check, self.data)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from analysis import canvas, timeline  # Altair takes a second that only notebooks need

        return explain.render_html(self.check, self.data, canvas.svg(timeline.draw(self.check)))


def explain_check(con: duckdb.DuckDBPyConnection, check_id: str | int) -> Explanation:
    """Explain one check; raise NotFoundError when the store has no such check."""
    return Explanation(replay.check(con, str(check_id)))


class Examples(dict[str, Explanation]):
    """An explanation for each of several causes; in a notebook, with the words for the cause and what proves it."""

    def _repr_html_(self) -> str:
        return "".join(
            f"<h4>{causes.words(cause)}</h4><p><em>Proof: {causes.proof(cause)}.</em></p>{told._repr_html_()}"
            for cause, told in self.items()
        )


def explain_causes(con: duckdb.DuckDBPyConnection) -> Examples:
    """Explain, for every cause for which recorded and replayed do not simply agree, the first check that has it."""
    first = checks(con, disagreements=True).unique("cause", keep="first", maintain_order=True).sort("cause")
    return Examples({row["cause"]: explain_check(con, row["check_id"]) for row in first.to_dicts()})


def changed_under(con: duckdb.DuckDBPyConnection, rule: str) -> pl.DataFrame:
    """List the checks whose replayed verdict would have been another under a rule, and why.

    The rule is a documented one by its version (strict, v11, v12, rollback), or a file that holds a definition.
    """
    with replay.under(con, replay.named(rule)):
        return query.frame(con, "replay/changed")


def pairs_under(con: duckdb.DuckDBPyConnection, rule: str) -> pl.DataFrame:
    """List the pairs of allocations that stood at once and that a rule, or the rule now in force, refuses.

    The rule is given as to :func:`changed_under`. Where ``refused`` and ``refused_in_force`` differ, one rule lets in what
    the other does not.
    """
    return replay.pairs(con, replay.named(rule))


def matrix(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Count the checks by recorded verdict, replayed verdict and cause, which also stands there in words."""
    counted = query.frame(con, "replay/matrix")
    return counted.with_columns(in_words=pl.Series([causes.words(cause) for cause in counted["cause"]], dtype=pl.String))
