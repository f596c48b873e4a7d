"""The rules with the time each was in force: as documented, as captures read them, as recorded refusals name them."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from analysis import constraint, query
from analysis.model import Rule, RuleError

_RULE_SCHEMA: dict[str, Any] = {
    "rule": pl.String,
    "version": pl.String,
    "definition": pl.String,
    "equality": pl.List(pl.String),
    "firm_only": pl.Boolean,
    "deferrable": pl.Boolean,
    "initially_deferred": pl.Boolean,
    "valid_from": pl.Datetime("us", "UTC"),
    "valid_to": pl.Datetime("us", "UTC"),
    "replayable": pl.Boolean,
}


def write(con: duckdb.DuckDBPyConnection) -> None:
    """Write ``rules`` of the store, and for the replay ``rule_names``: what a recorded refusal may call an overlap rule."""
    _write_rules(con, _in_force(con), "table")
    _name_rules(con)


def write_only(con: duckdb.DuckDBPyConnection, rule: Rule) -> None:
    """Write the same on this connection only, as if one rule had always been in force, and no other."""
    _name_rules(con)
    _write_rules(con, [_row(replace(rule, valid_from=None, valid_to=None))], "temporary table")


def _in_force(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """List the rules with the time each was in force: documented until the migration, after it as captured.

    A captured rule counts from the capture that first shows it, from the first check before it that was refused by that
    name, or from the documented migration when it is the documented one; until the capture that misses it. A documented one
    that no capture shows counts until the last check that was refused by its name.
    """
    known = [_row(rule) for rule in constraint.RULES.values() if rule.valid_to == constraint.MIGRATED_AT]
    captured = [_captured(row) for row in query.rows(con, "replay/captured_rules")]
    for rule in constraint.RULES.values():
        if rule.valid_from is not None and rule.name not in {row["rule"] for row in captured}:
            [last] = query.rows(con, "replay/last_named", rule=rule.name)
            if last["named_at"] is not None and last["named_at"] >= rule.valid_from:
                known.append(_row(replace(rule, valid_to=last["named_at"] + timedelta(microseconds=1))))
    return known + captured


def _captured(row: dict[str, Any]) -> dict[str, Any]:
    name, definition = row["rule"], row["definition"]
    documented = next((rule for rule in constraint.RULES.values() if (rule.name, rule.definition) == (name, definition)), None)
    since: datetime = max(row["first_named_at"] or row["first_captured_at"], constraint.MIGRATED_AT)
    if documented is not None and documented.valid_from is not None:
        since = documented.valid_from
    version = documented.version if documented else "captured"
    try:
        return _row(constraint.parse(name, definition, version=version, valid_from=since, valid_to=row["missed_at"]))
    except RuleError:
        return {
            "rule": name,
            "version": version,
            "definition": definition,
            "valid_from": since,
            "valid_to": row["missed_at"],
            "replayable": False,
        }


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.name,
        "version": rule.version,
        "definition": rule.definition,
        "equality": list(rule.equality),
        "firm_only": rule.firm_only,
        "deferrable": rule.deferrable,
        "initially_deferred": rule.initially_deferred,
        "valid_from": rule.valid_from,
        "valid_to": rule.valid_to,
        "replayable": True,
    }


def _name_rules(con: duckdb.DuckDBPyConnection) -> None:
    """Write what a recorded refusal may call an overlap rule: whatever captures read or is documented."""
    con.execute(
        "create or replace temporary table rule_names as select unnest($names) as rule union select key from raw_rules",
        {"names": [rule.name for rule in constraint.RULES.values()]},
    )


def _write_rules(con: duckdb.DuckDBPyConnection, rules: list[dict[str, Any]], kind: query.Kind) -> None:
    con.register("rule_rows", pl.DataFrame(rules, schema=_RULE_SCHEMA))
    con.execute(f"create or replace {kind} rules as from rule_rows order by valid_from nulls first, rule, version")
    con.unregister("rule_rows")
