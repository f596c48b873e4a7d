"""The nouns: Window, Rule, Verdict, Cause, Grade, Conflict; and the errors.

Errors
    ForensicsError          every error this kit raises on purpose; one clear line, exit status 2
    ├── SourceError         the PostgreSQL source cannot be read as asked
    ├── StoreError          the store is missing, locked, or not a store
    ├── RuleError           a constraint whose form cannot be replayed exactly
    └── NotFoundError       the store holds no such check, restaurant or rule
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self


class ForensicsError(Exception):
    """Something a user can act on: found, expected, next step."""


class SourceError(ForensicsError):
    """The PostgreSQL source cannot be read as asked."""


class StoreError(ForensicsError):
    """The store is missing, locked by a writer, or not a store."""


class RuleError(ForensicsError):
    """A constraint of a form that cannot be replayed exactly."""


class NotFoundError(ForensicsError):
    """The store holds no such thing."""


class Verdict(StrEnum):
    """What a replay can say; it has no truth value, so that nobody takes unknown for clear."""

    CLEAR = "clear"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"

    def __bool__(self) -> bool:
        raise TypeError("a verdict is clear, conflict or unknown: compare it, do not test its truth")


class Cause(StrEnum):
    """Why the recorded and the replayed verdict are as they are; every check has exactly one.

    A refusal whose recorded reason is no overlap has that reason as its cause, whatever the replay finds. Decided under
    another rule: the recorded constraint is an overlap rule, but not the one in force. Below a millisecond: all that is
    shared is shorter than the precision of writers in JavaScript, so the overlap may be theirs. The last three are also
    the reasons for an unknown verdict.

    Codes are stored and printed in JSON; :attr:`words` is what people read.
    """

    AGREED = "agreed"
    RIVAL_COMMITTED_MEANWHILE = "rival_committed_meanwhile"
    RIVAL_NOT_IN_EVIDENCE = "rival_not_in_evidence"
    DECIDED_UNDER_ANOTHER_RULE = "decided_under_another_rule"
    OVERLAP_BELOW_A_MILLISECOND = "overlap_below_a_millisecond"
    UNIQUE_VIOLATION = "unique_violation"
    DEADLOCK = "deadlock"
    SERIALIZATION_FAILURE = "serialization_failure"
    OTHER_REFUSAL = "other_refusal"
    REASON_NOT_RECORDED = "reason_not_recorded"
    CONFIRMED_OVER_CONFLICT = "confirmed_over_conflict"
    EVIDENCE_MISSING = "evidence_missing"
    EVIDENCE_UNDECODABLE = "evidence_undecodable"
    RULE_UNKNOWN = "rule_unknown"

    @property
    def words(self) -> str:
        """Return the cause as it is told."""
        return _CAUSE_WORDS[self]


_CAUSE_WORDS = {
    Cause.AGREED: "agreed",
    Cause.RIVAL_COMMITTED_MEANWHILE: "rival committed while the check waited",
    Cause.RIVAL_NOT_IN_EVIDENCE: "rival not in evidence",
    Cause.DECIDED_UNDER_ANOTHER_RULE: "decided under another rule",
    Cause.OVERLAP_BELOW_A_MILLISECOND: "overlap below one millisecond",
    Cause.UNIQUE_VIOLATION: "unique violation",
    Cause.DEADLOCK: "deadlock",
    Cause.SERIALIZATION_FAILURE: "serialization failure",
    Cause.OTHER_REFUSAL: "refused for another reason than an overlap",
    Cause.REASON_NOT_RECORDED: "refused, and no reason was recorded",
    Cause.CONFIRMED_OVER_CONFLICT: "confirmed over a conflict",
    Cause.EVIDENCE_MISSING: "evidence missing",
    Cause.EVIDENCE_UNDECODABLE: "evidence cannot be decoded",
    Cause.RULE_UNKNOWN: "rule in force not known",
}


class Grade(StrEnum):
    """How sure an answer is.

    ``complete``: the check's own snapshot, and it says that it covers the request. ``partial``: a snapshot whose
    writer did not say what it is complete for, or with entries in quarantine. ``none``: no usable snapshot.
    """

    COMPLETE = "complete"
    PARTIAL = "partial"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Window:
    """A PostgreSQL ``tstzrange`` as evidence rows carry it: the text, and its bounds where they are finite instants.

    >>> w = Window.of({"window": '["2025-11-15 18:00:00+00",)', "window_lower": datetime(2025, 11, 15, 18, tzinfo=UTC)})
    >>> str(w), w.length, w.upper
    ('["2025-11-15 18:00:00+00",)', None, None)
    """

    text: str
    lower: datetime | None
    upper: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any], prefix: str = "window") -> Self:
        """Take a window from a row with the columns PREFIX, PREFIX_lower and PREFIX_upper."""
        return cls(row[prefix], row.get(f"{prefix}_lower"), row.get(f"{prefix}_upper"))

    @property
    def length(self) -> timedelta | None:
        """Return how long it is; null when a bound is not a finite instant."""
        return None if self.lower is None or self.upper is None else self.upper - self.lower

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Allocation:
    """A claim on a resource during a window.

    As a request it has no ``allocation_id`` yet. ``kind`` is booking, hold, maintenance, merge_group or request; ``since``
    is when it was last changed; ``source`` where the evidence has it from. ``label`` is the table's number, where known.
    """

    resource_type: str | None
    resource_id: str | None
    window: Window
    kind: str
    source: str
    restaurant_id: str | None = None
    allocation_id: str | None = None
    booking_id: str | None = None
    label: str | None = None
    seats: int | None = None
    shadow: bool | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """What was requested, one rival, and the part of time they share; ``overlap_s`` is null where that part has no end."""

    requested: Allocation
    rival: Allocation
    overlap: Window
    overlap_s: float | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A table and window that were free at the check; ``shift_s`` is how much later than asked, negative for earlier."""

    resource_id: str
    label: str | None
    window: Window
    shift_s: float
    seats: int | None


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A firm neighbour on a requested resource; ``side`` is before or after, a ``gap_s`` of 0 means that they touch."""

    allocation: Allocation
    side: str
    gap_s: float


@dataclass(frozen=True, slots=True)
class Check:
    """One recorded confirmation attempt with everything the store knows of it.

    ``rule`` is null when none is known to have been in force. ``alternatives`` is null where the evidence is too thin to
    verify one. ``recorded`` holds sqlstate, constraint, message and detail as the source recorded them, each or all null.
    """

    check_id: str
    booking_id: str | None
    restaurant_id: str | None
    restaurant_name: str | None
    timezone: str | None
    checked_at: datetime
    captured_at: datetime
    capture_id: int
    recorded_verdict: str
    replayed_verdict: Verdict
    cause: Cause
    unknown_because: Cause | None
    grade: Grade
    rule: "Rule | None"
    recorded: Mapping[str, str | None]
    scope: Window | None
    hold_id: str | None
    requests: tuple[Allocation, ...]
    conflicts: tuple[Conflict, ...]
    state: tuple[Allocation, ...]
    alternatives: tuple[Alternative, ...] | None
    near_misses: tuple[NearMiss, ...] = ()


MIGRATED_AT = datetime(2025, 11, 13, 21, 21, tzinfo=UTC)
"""When allocations_no_overlap replaced the older rules, as the deployment summary documents it."""

_DEFINITION = re.compile(
    r"EXCLUDE USING gist \((?P<equal>(?:\w+ WITH =, )*)\"window\" WITH &&\)"
    r"(?P<predicate> WHERE \(\(NOT shadow\)\))?"
    r"(?P<deferrable> DEFERRABLE)?(?P<deferred> INITIALLY DEFERRED)?"
)
REPLAYED_COLUMNS = ("restaurant_id", "resource_type", "resource_id")


@dataclass(frozen=True, slots=True)
class Rule:
    """An exclusion constraint on allocations, with the time it was in force.

    ``equality`` are the columns compared with ``=``, in the constraint's order; the overlap column is ``window``.
    ``firm_only`` is the predicate ``NOT shadow``. ``valid_to`` null: still in force.
    """

    name: str
    version: str
    definition: str
    equality: tuple[str, ...]
    firm_only: bool
    deferrable: bool
    initially_deferred: bool
    valid_from: datetime | None = None
    valid_to: datetime | None = None

    @classmethod
    def parse(
        cls,
        name: str,
        definition: str,
        *,
        version: str = "captured",
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
    ) -> Self:
        """Read the text of ``pg_get_constraintdef``; raise RuleError for a form that is not replayed exactly.

        >>> Rule.parse("r", 'EXCLUDE USING gist (resource_id WITH =, "window" WITH &&) WHERE ((NOT shadow))').equality
        ('resource_id',)
        """
        match = _DEFINITION.fullmatch(definition)
        equality = tuple(re.findall(r"(\w+) WITH =", match["equal"])) if match else ()
        unknown = [column for column in equality if column not in REPLAYED_COLUMNS]
        if match is None or unknown:
            raise RuleError(
                f"constraint {name} has a form that cannot be replayed exactly: {definition}; expected equality on some of "
                f'{", ".join(REPLAYED_COLUMNS)}, then "window" WITH &&, with no predicate or with NOT shadow'
            )
        return cls(
            name,
            version,
            definition,
            equality,
            match["predicate"] is not None,
            match["deferrable"] is not None,
            match["deferred"] is not None,
            valid_from,
            valid_to,
        )

    @property
    def key_columns(self) -> str:
        """Return the columns as PostgreSQL lists them in an error's detail: quoted where the word is reserved.

        >>> RULES["v12"].key_columns
        'restaurant_id, resource_type, resource_id, "window"'
        """
        return ", ".join((*self.equality, '"window"'))


def _rule(name: str, version: str, columns: str, rest: str, since: datetime | None, until: datetime | None) -> Rule:
    definition = f'EXCLUDE USING gist ({columns}, "window" WITH &&){rest}'
    return Rule.parse(name, definition, version=version, valid_from=since, valid_to=until)


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
