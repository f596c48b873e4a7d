"""Forensics of booking confirmations: PostgreSQL → raw → facts → state at check time → verdicts → a story, or rates."""

import duckdb

from analysis import decode, reconstruct, replay


def derive(con: duckdb.DuckDBPyConnection) -> None:
    """Write every relation that follows from the raw ones, in the order of the pipeline."""
    decode.run(con)
    reconstruct.run(con)
    replay.run(con)
