"""The text of an exclusion constraint ↔ a Rule; and the rules that are documented. Nothing here reads or writes anything."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from analysis.model import Rule, RuleError

MIGRATED_AT = datetime(2025, 11, 13, 21, 21, tzinfo=UTC)
"""When allocations_no_overlap replaced the older rules, as the deployment summary documents it."""

_DEFINITION = re.compile(
    r"(?:ALTER TABLE (?:ONLY )?\S+ ADD )?(?:CONSTRAINT (?P<name>\w+) )?"
    r"EXCLUDE USING gist ?\((?P<elements>[^()]+)\)(?: ?WHERE ?(?P<predicate>\([^;]*?\)))?"
    r"(?P<deferrable> (?:NOT )?DEFERRABLE)?(?P<initially> INITIALLY (?:DEFERRED|IMMEDIATE))?(?: ?;)?",
    re.IGNORECASE,
)

_ELEMENT = re.compile(r'"?(\w+)"? WITH (=|&&)', re.IGNORECASE)

REPLAYED_COLUMNS = ("restaurant_id", "resource_type", "resource_id", "shadow")
"""What a rule may compare with ``=``: the columns that every entry of a snapshot must say."""


def parse(
    name: str,
    definition: str,
    *,
    version: str = "captured",
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> Rule:
    """Read the text of ``pg_get_constraintdef``, or one that a person wrote in its place, ``CONSTRAINT name`` in front.

    A name in the text comes before the one given. Raises RuleError for a form that is not replayed exactly.

    >>> parse("r", 'EXCLUDE USING gist (resource_id WITH =, "window" WITH &&) WHERE ((NOT shadow))').equality
    ('resource_id',)
    >>> parse("r", 'constraint own exclude using gist ("window" with &&) initially deferred;').definition
    'EXCLUDE USING gist ("window" WITH &&) DEFERRABLE INITIALLY DEFERRED'
    """
    match = _DEFINITION.fullmatch(" ".join(definition.split()))
    elements = [_ELEMENT.fullmatch(element.strip()) for element in match["elements"].split(",")] if match else []
    compared = [(element[1].lower(), element[2]) for element in elements if element]
    predicate = re.sub(r"[()\s]+", " ", (match and match["predicate"]) or "").strip().lower()
    if (
        match is None
        or len(compared) < len(elements)
        or len(dict(compared)) < len(compared)
        or [column for column, operator in compared if operator == "&&"] != ["window"]
        or not {column for column, _ in compared} <= {*REPLAYED_COLUMNS, "window"}
        or predicate not in ("", "not shadow")
    ):
        raise RuleError(
            f"constraint {name} has a form that cannot be replayed exactly: {definition}; expected equality on some of "
            f'{", ".join(REPLAYED_COLUMNS)} and "window" WITH &&, with no predicate or with NOT shadow'
        )
    columns = tuple(column for column, _ in compared)
    deferred = (match["initially"] or "").upper().endswith("DEFERRED")
    deferrable = deferred or (match["deferrable"] or "").upper() == " DEFERRABLE"
    return Rule(
        match["name"] or name,
        version,
        _definition(columns, predicate != "", deferrable, deferred),
        columns,
        predicate != "",
        deferrable,
        deferred,
        valid_from,
        valid_to,
    )


def _definition(columns: Sequence[str], firm_only: bool, deferrable: bool, deferred: bool) -> str:
    """Write a rule as pg_get_constraintdef does."""
    elements = ", ".join('"window" WITH &&' if column == "window" else f"{column} WITH =" for column in columns)
    rest = (" WHERE ((NOT shadow))", firm_only), (" DEFERRABLE", deferrable), (" INITIALLY DEFERRED", deferred)
    return f"EXCLUDE USING gist ({elements})" + "".join(words for words, said in rest if said)


def _rule(name: str, version: str, columns: str, rest: str, since: datetime | None, until: datetime | None) -> Rule:
    definition = f'EXCLUDE USING gist ({columns}, "window" WITH &&){rest}'
    return parse(name, definition, version=version, valid_from=since, valid_to=until)


_RESOURCE = "resource_type WITH =, resource_id WITH ="

_FIRM = " WHERE ((NOT shadow))"

RULES: dict[str, Rule] = {
    rule.version: rule
    for rule in (
        _rule("allocations_resource_window_excl", "strict", _RESOURCE, " DEFERRABLE INITIALLY DEFERRED", None, MIGRATED_AT),
        _rule("allocations_firm_window_excl", "v11", _RESOURCE, _FIRM, None, MIGRATED_AT),
        _rule(
            "allocations_no_overlap",
            "v12",
            f"restaurant_id WITH =, {_RESOURCE}",
            f"{_FIRM} DEFERRABLE",
            MIGRATED_AT,
            None,
        ),
        _rule(
            "allocations_resource_window_excl",
            "rollback",
            _RESOURCE,
            f"{_FIRM} DEFERRABLE INITIALLY DEFERRED",
            None,
            None,
        ),
    )
}
"""The documented forms by version. ``rollback`` was never seen in force: it is replayed only when asked for."""
