"""Answers → text for a terminal, or JSON. Nothing here reads or writes anything."""

import json
import math
from datetime import datetime
from typing import Any, Literal

import polars as pl

from analysis import phrases
from analysis.causes import words


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
    return phrases.printable(str(value))


def _by_problem(findings: pl.DataFrame) -> str:
    """Count what verify found, by table and problem."""
    counts = findings.group_by("table", "problem", maintain_order=True).len().to_dicts()
    return " · ".join(f"{row['len']:,} {row['table']}: {row['problem']}" for row in counts)


Derived = Literal["compared", "of another version", "none"]


def verified(findings: pl.DataFrame, captures: int, blocks: int, chain_hash: str) -> list[str]:
    """Tell what verify looked at and found, line by line."""
    lines = [f"{phrases.counted(captures, 'captures')}, {phrases.counted(blocks, 'blocks')}, chained to {chain_hash}"]
    if len(findings):
        lines.append(f"{phrases.counted(len(findings), 'findings')}: {_by_problem(findings)}")
        lines.append(table(findings.drop(name for name in findings.columns if findings[name].null_count() == len(findings))))
    return lines


def as_it_was(derived: Derived, *, of_source: bool) -> str:
    """Say what was compared and is the same."""
    told = {
        "compared": ", every derived relation what follows from it",
        "of another version": "; what another version of the kit derived from it was not compared",
        "none": "",
    }
    return f"Every block holds what was captured{told[derived]}{', and the source holds the same' if of_source else ''}."


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
    over = {"clear": "over a clear state", "conflict": "over a conflict", "unknown": "and cannot be told"}
    lines = []
    for (recorded, replayed), cell in matrix.filter(pl.col("cause") != "agreed").group_by(
        "recorded_verdict", "replayed_verdict", maintain_order=True
    ):
        causes = " · ".join(f"{row['checks']:,} {words(row['cause'])}" for row in cell.to_dicts())
        lines.append(f"{cell['checks'].sum():,} {recorded} {over[str(replayed)]}:   {causes}")
    return lines


def causes(changed: pl.DataFrame) -> str:
    """Say in brackets to which verdict, and why, how many of the changed checks came."""
    counted = changed.group_by("replayed_verdict", "cause").len().sort("len", "cause", descending=[True, False])
    told = [f"{row['len']:,} {row['replayed_verdict']}: {words(row['cause'])}" for row in counted.to_dicts()]
    return f" ({' · '.join(told)})" if told else ""


def replayed(
    matrix_rows: pl.DataFrame, extent: dict[str, Any], under: tuple[str, pl.DataFrame, pl.DataFrame] | None, *, verbose: bool
) -> list[str]:
    """Tell the matrix and its causes, line by line; ``under`` another rule: its name, and the checks and pairs that differ."""
    lines = [matrix(matrix_rows), "", *off_diagonal(matrix_rows)]
    if under is not None:
        rule, changed, pairs = under
        lines.append(
            f"Under {rule} instead: {phrases.counted(len(changed), 'checks')} would come out otherwise{causes(changed)}"
        )
        if verbose and len(changed):
            lines.append(table(changed))
        refused = int(pairs["refused"].sum())
        lines.append(
            f"By their timestamps {phrases.counted(refused, 'pairs')} of allocations stood at once that {rule} refuses "
            "and the rule in force accepts, "
            f"and {len(pairs) - refused:,} the other way round" + ("" if verbose else "; list all of them with --verbose")
        )
        if verbose and len(pairs):
            lines.append(table(pairs.drop("refused_in_force")))
    if extent["checks"]:
        lines.append(
            f"{phrases.counted(extent['checks'], 'checks')} of {phrases.counted(extent['restaurants'], 'restaurants')}, "
            f"{extent['first_checked_at']:%d %b %Y} to {extent['last_checked_at']:%d %b %Y}; "
            f"{phrases.counted(extent['quarantined'], 'rows')} in quarantine (forensics checks --quarantine)"
        )
    if extent["tenant"]:
        lines.append(f"Captured as tenant {extent['tenant']}: what other restaurants hold is out of sight")
    return lines


def cache(figures: dict[str, Any]) -> list[str]:
    """Tell what a cache would save, line by line."""
    bound = f"{100 * figures['stale_bound']:g} %"
    lookups, unique, best, unseen = (figures[name] for name in ("lookups", "uniqueness", "best_ttl", "unseen"))
    told = []
    if unseen["recorded"]:
        told = [
            f"Recorded in the idempotency shape: {phrases.counted(unseen['recorded'], 'confirmations')}. "
            "An answer from its cache leaves no row, so that no hit rate follows.",
            f"Its logs tell of {phrases.counted(unseen['logged'], 'confirmations')} that were computed, "
            f"{unseen['computed_again']:,} of them for a key that had been answered before."
            if unseen["logged"]
            else "No log that could be read tells of confirmations that were computed.",
        ]
    if not lookups:
        return told or ["No checks in this store: there is no hit rate to give."]
    curve = pl.DataFrame(figures["ttl_curve"]).select(
        "policy",
        "ttl_s",
        "hits",
        *(pl.format("{} %", (100 * pl.col(of) / lookups).round(1)).alias(name) for name, of in _RATES.items()),
        "stale_hits",
        stale_share=pl.when(pl.col("hits") > 0).then(pl.format("{} %", (100 * pl.col("stale_hits") / pl.col("hits")).round(1))),
    )
    again = figures["retries"] + figures["rechecks"]
    lines = [
        *told,
        f"{again:,} of {lookups:,} lookups ({_percent(again, lookups)}) ask again for what their booking "
        f"asked before: {figures['retries']:,} retries within a minute,",
        f"{figures['rechecks']:,} re-checks. Inferred: every check was computed, none was answered from a cache.",
        f"A cache without expiry would have answered {figures['hits']:,}; one that knew when its answer no longer held, "
        f"{figures['clairvoyant']:,}.",
        "",
        table(curve),
        "at_least, at_most: whatever was asked before the first check in evidence",
        "",
    ]
    if best is None:
        lines.append(f"None of these TTLs answers anything with at most {bound} wrong.")
    else:
        lines.append(
            f"Most hits with at most {bound} wrong: {best['ttl_s']:.10g} s from {best['policy'].replace('_', ' ')}, "
            f"{best['hits']:,} hits ({_percent(best['hits'], lookups)}), {best['stale_hits']:,} wrong; "
            f"by {best['bookings_hit']:,} bookings no more than {_up(best['stale_share_high'])} (95 %)."
        )
    lines.append(
        f"Were booking_id unique: {unique['bookings_with_several']:,} of {unique['bookings']:,} bookings have several checks; "
        f"the newest would overwrite {unique['rows_overwritten']:,}, "
        f"{unique['verdicts_overwritten']:,} of them with the other verdict, {unique['refusals_overwritten']:,} refusals."
    )
    if unique["asked_after_confirmed"]:
        lines.append(
            f"Of {unique['asked_after_confirmed']:,} requests asked again after a confirmation "
            f"{unique['refused_after_confirmed']:,} were refused: "
            f"confirming is {'not ' if unique['refused_after_confirmed'] else ''}idempotent here."
        )
    return lines


_RATES = {"hit_rate": "hits", "at_least": "hits_low", "at_most": "hits_high"}


def retention(figures: dict[str, Any]) -> list[str]:
    """Tell what a retention frees and loses, line by line."""
    days, rows = figures["days"], figures["rows_kept"] + figures["rows_freed"]
    if not rows:
        return ["No checks in this store: there is nothing to keep or to free."]
    size = figures["bytes_kept"] + figures["bytes_freed"]
    best = figures["shortest"]
    shortest = best and [
        f"The shortest retention that keeps {100 - 100 * figures['purged_bound']:g} % until the meal: {best['days']} days "
        f"({100 * best['purged_share']:.1f} % gone, no more than {_up(best['purged_share_high'])} by the 95 % interval)"
    ]
    variants = pl.DataFrame(figures["variants"]).drop("days", "as_of", "rows_kept", "bytes_kept", "hits_forgotten", "meals")
    return [
        f"Keeping {phrases.counted(days, 'days')}, counted back from {figures['as_of']:%Y-%m-%d %H:%M}Z, the newest check:",
        f"  {figures['rows_freed']:,} of {rows:,} rows go, {_percent(figures['bytes_freed'], size)} of {size:,} bytes of text",
        f"  {figures['explanations_lost']:,} explanations go with them, {figures['refusals_lost']:,} of refusals; "
        f"{figures['hits_forgotten']:,} repeats can no longer be counted",
        "Had it always been in force:",
        f"  {phrases.counted(figures['hits_lost'], 'repeats')} would have found no answer: the one before was more than "
        f"{phrases.counted(days, 'days')} old",
        f"  {figures['purged_before_meal']:,} of {figures['meals']:,} checks for a known meal would have gone before it, "
        "as they were made further ahead",
        *(shortest or []),
        "",
        table(variants),
    ]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _up(share: float) -> str:
    """Tell an upper bound, which rounding must not lower."""
    return f"{math.ceil(1000 * share) / 10:g} %"


def _short(chain_hash: str | None) -> str:
    """Return enough of a hash to compare by eye."""
    return f"{chain_hash[:6]}…{chain_hash[-6:]}" if chain_hash else "none"


_ROWS = {
    "allocations_archive": "archived",
    "capacity_outbox": "outbox events",
    "audit_logs": "audit entries",
    "booking_assignment_idempotency": "ledger entries",
    "booking_table_assignments": "assignments",
    "table_holds": "holds",
    "observability_events": "reported events",
}


def captured(manifest: dict[str, Any], reasons: list[dict[str, Any]]) -> list[str]:
    """Tell what a capture read, rescued, quarantined, for these reasons, and found missing, line by line."""
    relations = {row["relation"]: row for row in manifest["relations"]}
    read = ", ".join(
        phrases.counted(row["rows_read"], _ROWS.get(name, name)) for name, row in relations.items() if name != "rules"
    )
    new, changed, vanished, rescued = (
        sum(row[f"rows_{what}"] for row in relations.values()) for what in ("new", "changed", "vanished", "rescued")
    )
    sight = "row security off" if manifest["tenant"] is None else f"only what tenant {manifest['tenant']} may see"
    before = f"capture {manifest['capture_id'] - 1}"
    late = f" · {rescued:,} rescued: committed late, after {before} had passed them" if rescued else ""
    lines = [
        f"Read {read} ({manifest['shape']} shape) in {manifest['seconds']:g} s",
        f"as {manifest['role']} on PostgreSQL {manifest['server_version']}, one snapshot, {sight}",
        *_gaps(manifest),
    ]
    if manifest["moved"]:
        lines.append(
            f"Is this the right source? The store's {before} read another server or database: whatever differs is taken for "
            "changed, or vanished"
        )
    lines.append(f"{new:,} new · {changed:,} changed in place · {vanished:,} vanished at the source (kept here){late}")
    for row in manifest["open"]:
        since = f"{row['begun_at']:%Y-%m-%d %H:%M:%S}Z" if row["begun_at"] else f"before capture {row['open_since_capture']}"
        lines.append(
            f"Still to come, if at all: transaction {row['row_xid']} has written and not committed, open since {since}"
        )
    told = ", ".join(f"{row['rows']:,} {row['reason']}" for row in reasons)
    lines.append(f"{manifest['quarantined']:,} quarantined{f': {told}' if told else ''}")
    lines += [_rule(row, manifest["capture_id"]) for row in manifest["rules"]] or [_NO_RULE]
    if manifest["leftovers"]:
        told = ", ".join(f"{rows:,} {kind}{'s' * (rows != 1)}" for kind, rows in manifest["leftovers"].items())
        lines.append(f"Left over from holds that were never confirmed, refused or given up: {told}")
    return [*lines, f"Chain {_short(manifest['chained_to'])} → {_short(manifest['chain_hash'])}"]


_NO_RULE = "No exclusion constraint on allocations: nothing there forbids an overlap"


def _rule(row: dict[str, Any], capture_id: int) -> str:
    if row["is_gone"]:
        return f"Rule {row['rule']} is gone from the source"
    if row["since_capture"] < capture_id:
        return f"Rule {row['rule']} unchanged since capture {row['since_capture']}"
    return f"Rule {row['rule']} {'changed' if row['was_otherwise'] else 'read for the first time'}"


def _gaps(manifest: dict[str, Any]) -> list[str]:
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
