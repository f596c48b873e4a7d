"""Rule × state → verdicts and all rivals, set-based."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from analysis import constraint, query, registry
from analysis.model import (
    Allocation,
    Alternative,
    Cause,
    Change,
    Check,
    Conflict,
    Grade,
    Look,
    NearMiss,
    NotFoundError,
    Rule,
    Verdict,
    Window,
)


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write ``rules``, ``rivals`` and ``verdicts`` of the store, each check under the rule in force when it ran."""
    registry.write(con)
    # Only while another rule is replayed is there anything to compare with.
    con.execute("create temporary table stored_verdicts (check_id varchar, replayed_verdict varchar, unknown_because varchar)")
    for name in ("rivals", "verdicts"):
        query.materialise(con, f"replay/{name}")
    con.execute("drop table temp.stored_verdicts; drop table temp.rule_names")


def named(name: str) -> Rule:
    """Return a documented rule by its version, or the one whose definition a file holds, named after the file.

    Raises NotFoundError when there is neither, RuleError for a definition that is not replayed exactly.
    """
    if name in constraint.RULES:
        return constraint.RULES[name]
    try:
        return constraint.parse(Path(name).stem, Path(name).read_text(encoding="utf-8"), version="given")
    except (OSError, UnicodeDecodeError):
        raise NotFoundError(
            f"no rule {name}: expected one of {', '.join(constraint.RULES)}, or a file with a definition"
        ) from None


@contextmanager
def under(con: duckdb.DuckDBPyConnection, rule: Rule) -> Iterator[None]:
    """Replay every check under one rule instead of those in force.

    Inside the block ``rules``, ``rivals`` and ``verdicts`` are those of this replay, on this connection only, and
    ``stored_verdicts`` are those of the store.
    """
    con.execute("create or replace temporary table stored_verdicts as from verdicts")
    registry.write_only(con, rule)
    try:
        for name in ("rivals", "verdicts"):
            query.materialise(con, f"replay/{name}", "temporary table")
        yield
    finally:
        for name in ("rules", "rule_names", "rivals", "verdicts", "stored_verdicts"):
            con.execute(f"drop table if exists temp.{name}")


def pairs(con: duckdb.DuckDBPyConnection, rule: Rule) -> pl.DataFrame:
    """List all pairs of allocations that stood at once, by their timestamps, and overlap under a rule or those now in force.

    Columns: ``refused`` by the rule and ``refused_in_force`` (null where one of those cannot be replayed) say which of the
    two it is, or both; then those of ``sql/replay/pairs.sql``, each pair once. ``updated_at`` is the start of a transaction,
    so that two which began and ended within milliseconds may not have met.
    """
    rows = con.table("rules").pl().to_dicts()
    now = [row for row in rows if row["valid_to"] is None]
    in_force = [constraint.parse(row["rule"], row["definition"]) for row in now if row["replayable"]]
    found = [
        query.frame(con, "replay/pairs", equality=list(each.equality), firm_only=each.firm_only).with_columns(
            in_force=is_in_force
        )
        for each, is_in_force in ((rule, pl.lit(value=False)), *((each, pl.lit(value=True)) for each in in_force))
    ]
    con.register("pair_rows", pl.concat(found))
    try:
        return query.frame(con, "replay/pairs_compared", knows=len(in_force) == len(now))
    finally:
        con.unregister("pair_rows")


def check(con: duckdb.DuckDBPyConnection, check_id: str) -> Check:
    """Gather everything the store knows of one check; raise NotFoundError, saying what there is, when it has none."""
    found = query.rows(con, "replay/check_facts", check_id=check_id)
    if not found:
        raise NotFoundError(_no_such_check(con, check_id))
    row = found[0]
    grade = Grade(row["grade"])
    requests = tuple(_request(row, r) for r in query.rows(con, "replay/check_requests", check_id=check_id))
    another_start_helps = (
        row["recorded_verdict"] == "refused"
        and row["cause"] in _OVERLAPS
        and grade is Grade.COMPLETE
        and {"resource_type", "resource_id"} <= set(row["equality"] or ())
        and all(r.window.length is not None and r.window.text[0] + r.window.text[-1] == "[)" for r in requests)
        # What else is asked for would have to move with the tables, and several windows each their own way.
        and all(r.resource_type == "table" and r.window == requests[0].window for r in requests)
    )
    seen = {(r["allocation_id"], r["window"]): _look(r) for r in query.rows(con, "replay/first_seen", check_id=check_id)}
    looks = query.rows(con, "replay/next_look", check_id=check_id) if row["cause"] == Cause.RIVAL_NOT_IN_EVIDENCE else []
    return Check(
        **{name: row[name] for name in _COPIED},
        replayed_verdict=Verdict(row["replayed_verdict"]),
        cause=Cause(row["cause"]),
        unknown_because=None if row["unknown_because"] is None else Cause(row["unknown_because"]),
        grade=grade,
        rule=None if row["rule"] is None or row["equality"] is None else _rule(row),
        recorded={
            "sqlstate": row["sqlstate"],
            "constraint": row["constraint_name"],
            "message": row["message"],
            "detail": row["detail"],
        },
        scope=None if row["scope_window"] is None else Window(row["scope_window"], row["scope_lower"], row["scope_upper"]),
        requests=requests,
        conflicts=tuple(_conflict(row, r, seen) for r in query.rows(con, "replay/check_rivals", check_id=check_id)),
        state=tuple(_held(r) for r in query.rows(con, "replay/check_state", check_id=check_id)),
        alternatives=_alternatives(con, check_id) if another_start_helps else None,
        near_misses=tuple(
            NearMiss(_held(r), r["side"], r["gap_s"]) for r in query.rows(con, "replay/near_misses", check_id=check_id)
        ),
        leftovers=tuple(_leftover(r) for r in query.rows(con, "replay/check_leftovers", check_id=check_id)),
        not_read=tuple(r["table_name"] for r in query.rows(con, "replay/not_read")),
        changes=tuple(
            Change(**{**r, "changed": tuple(r["changed"])}) for r in query.rows(con, "replay/check_changes", check_id=check_id)
        ),
        next_look=_look(looks[0]) if looks else None,
    )


# Refusals for which another table or start is an answer.
_OVERLAPS = {
    Cause.AGREED,
    Cause.RIVAL_COMMITTED_MEANWHILE,
    Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE,
    Cause.RIVAL_NOT_IN_EVIDENCE,
    Cause.DECIDED_UNDER_ANOTHER_RULE,
    Cause.OVERLAP_BELOW_A_MILLISECOND,
    Cause.DEADLOCK,
    Cause.SERIALIZATION_FAILURE,
    Cause.REASON_NOT_RECORDED,
}
_COPIED = (
    "check_id",
    "booking_id",
    "restaurant_id",
    "restaurant_name",
    "timezone",
    "checked_at",
    "captured_at",
    "capture_id",
    "recorded_verdict",
    "hold_id",
    "tenant",
    "shape",
    "recorded_at",
    "skew_s",
    "sibling",
)


def _no_such_check(con: duckdb.DuckDBPyConnection, check_id: str) -> str:
    of_booking = query.frame(con, "replay/check_list", booking_id=check_id, conflicts=False, disagreements=False)["check_id"]
    if len(of_booking):
        return f"{check_id} is a booking, not a check: explain one of its checks, {', '.join(of_booking.tail(5))}"
    [extent] = query.rows(con, "replay/extent")
    quarantined = con.execute(
        "select reason, raw from quarantine where relation = 'checks' and key = $key and reason like 'checked_at %'",
        {"key": check_id},
    ).fetchall()
    if quarantined:
        return f"check {check_id} is in quarantine: {quarantined[0][0]} ({quarantined[0][1]})"
    if extent["checks"] == 0:
        return f"no check {check_id}: the store holds no checks at all; the source's table was empty when it was captured"
    return (
        f"no check {check_id} in the store: it holds {extent['checks']} checks, "
        f"{extent['first_check_id']} to {extent['last_check_id']}, captured until {extent['captured_at']:%Y-%m-%d %H:%MZ}; "
        "list them with forensics checks, or capture again"
    )


def _rule(row: dict[str, Any]) -> Rule:
    return constraint.parse(
        row["rule"],
        row["rule_definition"],
        version=row["rule_version"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
    )


def _request(check_row: dict[str, Any], row: dict[str, Any]) -> Allocation:
    return Allocation(
        row["resource_type"],
        row["resource_id"],
        Window.of(row),
        kind="request",
        source=row["source"],
        restaurant_id=check_row["restaurant_id"],
        booking_id=check_row["booking_id"],
        label=row["table_number"],
        seats=row["seats"],
        shadow=False,
    )


def _look(row: dict[str, Any]) -> Look:
    return Look(row["looked_at"], row["check_id"], row["capture_id"])


def _conflict(check_row: dict[str, Any], row: dict[str, Any], seen: dict[tuple[str, str], Look]) -> Conflict:
    asked = {
        **row,
        "window": row["asked_window"],
        "window_lower": row["asked_lower"],
        "window_upper": row["asked_upper"],
    }
    requested = _request(check_row, {**asked, "source": "request", "seats": None})
    rival = Allocation(
        row["rival_resource_type"],
        row["rival_resource_id"],
        Window.of(row),
        kind=row["kind"],
        source=row["source"],
        restaurant_id=row["restaurant_id"],
        allocation_id=row["allocation_id"],
        booking_id=row["booking_id"],
        label=row["table_number"],
        shadow=row["shadow"],
        since=row["updated_at"],
    )
    first_seen = seen.get((row["allocation_id"], row["window"]))
    return Conflict(requested, rival, Window.of(row, "overlap"), row["overlap_s"], first_seen, row["is_named"])


def _held(row: dict[str, Any]) -> Allocation:
    return Allocation(
        row["resource_type"],
        row["resource_id"],
        Window.of(row),
        kind="maintenance" if row["is_maintenance"] else "hold" if row["shadow"] else "booking",
        source=row.get("source", "snapshot"),
        allocation_id=row["allocation_id"],
        booking_id=row["booking_id"],
        label=row["table_number"],
        shadow=row["shadow"],
        since=row["updated_at"],
    )


def _leftover(row: dict[str, Any]) -> Allocation:
    return Allocation(
        None,
        None,
        Window(row["window"], None, None),
        row["kind"],
        "leftover",
        allocation_id=row["key"],
        booking_id=row["booking_id"],
        since=row["created_at"],
    )


def _alternatives(con: duckdb.DuckDBPyConnection, check_id: str) -> tuple[Alternative, ...]:
    con.execute(f"create or replace temporary table meanwhile as {query.text('replay/meanwhile')}", {"check_id": check_id})
    return tuple(_alternative(row) for row in query.rows(con, "replay/alternatives", check_id=check_id))


def _alternative(row: dict[str, Any]) -> Alternative:
    return Alternative(row["resource_id"], row["table_number"], Window.of(row), row["shift_s"], row["seats"])
