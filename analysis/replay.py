"""Rule × state → verdicts and all rivals, set-based."""

from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from analysis import query
from analysis.model import MIGRATED_AT, RULES, NotFoundError, Rule, RuleError

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


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write ``rules``, ``rivals`` and ``verdicts`` of the store, each check under the rule in force when it ran."""
    _write_rules(con, _in_force(con), temporary=False)
    for name in ("rivals", "verdicts"):
        query.materialise(con, f"replay/{name}")


def under(con: duckdb.DuckDBPyConnection, version: str) -> None:
    """Replay every check under one documented rule instead; the answer hides the stored one on this connection only.

    Raises NotFoundError when there is no documented rule of that version.
    """
    if version not in RULES:
        raise NotFoundError(f"no rule {version}: expected one of {', '.join(RULES)}")
    rule = RULES[version]
    always = Rule.parse(rule.name, rule.definition, version=version)
    _write_rules(con, [_row(always)], temporary=True)
    for name in ("rivals", "verdicts"):
        query.materialise(con, f"replay/{name}", temporary=True)


def _in_force(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """List the rules with the time each was in force: documented until the migration, after it as captured.

    A captured rule counts from the capture that first shows it, or from the documented migration when it is the
    documented one, until the capture that misses it.
    """
    before = [_row(rule) for rule in RULES.values() if rule.valid_to == MIGRATED_AT]
    return before + [_captured(row) for row in query.rows(con, "replay/captured_rules")]


def _captured(row: dict[str, Any]) -> dict[str, Any]:
    name, definition = row["rule"], row["definition"]
    documented = next((rule for rule in RULES.values() if (rule.name, rule.definition) == (name, definition)), None)
    since: datetime = row["first_captured_at"]
    if documented is not None and documented.valid_from is not None:
        since = documented.valid_from
    version = documented.version if documented else "captured"
    try:
        return _row(Rule.parse(name, definition, version=version, valid_from=since, valid_to=row["missed_at"]))
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


def _write_rules(con: duckdb.DuckDBPyConnection, rules: list[dict[str, Any]], *, temporary: bool) -> None:
    con.register("rule_rows", pl.DataFrame(rules, schema=_RULE_SCHEMA))
    kind = "temporary table" if temporary else "table"
    con.execute(f"create or replace {kind} rules as from rule_rows order by valid_from nulls first, rule")
    con.unregister("rule_rows")
