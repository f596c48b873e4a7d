"""Answers → text for a terminal, or JSON. Nothing here reads or writes anything."""

import json
from datetime import datetime
from typing import Any

import polars as pl

from analysis.model import Cause


def as_json(data: dict[str, Any]) -> str:
    """Return one object as one line of JSON; instants are ISO 8601 in UTC."""
    return json.dumps(data, default=_plain, ensure_ascii=False)


def table(frame: pl.DataFrame) -> str:
    """Lay a frame out in columns, numbers to the right; a character that a terminal would act on shows as a mark."""
    rows = [frame.columns, *([_cell(value) for value in row] for row in frame.iter_rows())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(frame.columns))]
    numeric = [dtype.is_numeric() for dtype in frame.dtypes]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if right else f"{cell:<{width}}" for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}Z"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:g}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def counted(findings: pl.DataFrame) -> str:
    """Count what verify found, by table and problem."""
    counts = findings.group_by("table", "problem", maintain_order=True).len().to_dicts()
    return " · ".join(f"{row['len']:,} {row['table']}: {row['problem']}" for row in counts)


def matrix(matrix: pl.DataFrame) -> str:
    """Draw recorded against replayed verdicts."""
    replayed = {"replayed clear": "clear", "replayed conflict": "conflict", "cannot tell": "unknown"}
    lines = [" " * 22 + "".join(f"{name:>19}" for name in replayed)]
    for recorded in ("confirmed", "refused"):
        counts = [
            matrix.filter(recorded_verdict=recorded, replayed_verdict=verdict)["checks"].sum() for verdict in replayed.values()
        ]
        lines.append(f"{f'recorded {recorded}':<22}" + "".join(f"{count:>19,}" for count in counts))
    return "\n".join(lines)


def off_diagonal(matrix: pl.DataFrame) -> list[str]:
    """Tell the causes of every cell in which recorded and replayed do not simply agree."""
    words = {"clear": "over a clear state", "conflict": "over a conflict", "unknown": "and cannot be told"}
    lines = []
    for (recorded, replayed), cell in matrix.filter(pl.col("cause") != "agreed").group_by(
        "recorded_verdict", "replayed_verdict", maintain_order=True
    ):
        causes = " · ".join(f"{row['checks']:,} {Cause(row['cause']).words}" for row in cell.to_dicts())
        lines.append(f"{cell['checks'].sum():,} {recorded} {words[str(replayed)]}:   {causes}")
    return lines


def causes(changed: pl.DataFrame) -> str:
    """Say in brackets to which verdict, and why, how many of the changed checks came."""
    counted = changed.group_by("replayed_verdict", "cause").len().sort("len", "cause", descending=[True, False])
    told = [f"{row['len']:,} {row['replayed_verdict']}: {Cause(row['cause']).words}" for row in counted.to_dicts()]
    return f" ({' · '.join(told)})" if told else ""


def short(chain_hash: str | None) -> str:
    """Return enough of a hash to compare by eye."""
    return f"{chain_hash[:6]}…{chain_hash[-6:]}" if chain_hash else "none"


def plural(relation: str) -> str:
    """Return what the rows of a relation are called."""
    return _ROWS.get(relation, relation)


_ROWS = {
    "allocations_archive": "archived",
    "capacity_outbox": "outbox events",
    "audit_logs": "audit entries",
    "booking_assignment_idempotency": "ledger entries",
    "booking_table_assignments": "assignments",
    "table_holds": "holds",
    "observability_events": "reported events",
}


def gaps(manifest: dict[str, Any]) -> list[str]:
    """Tell what a capture found too little of, from its manifest: no checks, no such table, no such column."""
    lines = []
    if manifest["empty"]:
        lines.append(f"No checks to read: {manifest['empty']}")
    if manifest["missing"]:
        lines.append(f"Not there to read: {'; '.join(manifest['missing'].values())}")
    if manifest["lacking"]:
        lines.append(f"No such column, read as null: {', '.join(manifest['lacking'])}")
    return lines


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"no JSON for {type(value).__name__}")
