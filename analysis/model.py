"""The nouns: Window, Allocation, Rule, Verdict, Cause, Grade, Look, Conflict, Check; and the errors.

Errors
    ForensicsError          every error this kit raises on purpose; one clear line, exit status 2
    ├── SourceError         the PostgreSQL source cannot be read as asked
    │   └── ConflictError   a standby ended the read so that it could replay
    ├── StoreError          the store is missing, or not a store
    │   ├── LockedError     it is open in another process, or elsewhere in this one
    │   └── DamagedError    it lacks what its captures wrote
    ├── RuleError           a constraint whose form cannot be replayed exactly
    └── NotFoundError       the store holds no such check, restaurant or rule
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self


class ForensicsError(Exception):
    """Something a user can act on: found, expected, next step."""


class SourceError(ForensicsError):
    """The PostgreSQL source cannot be read as asked."""


class ConflictError(SourceError):
    """A standby ended the read so that it could replay; another one may succeed."""


class StoreError(ForensicsError):
    """The store is missing, locked by a writer, or not a store."""


class LockedError(StoreError):
    """The store is open in another process, or elsewhere in this one."""


class DamagedError(StoreError):
    """The store lacks what its captures wrote: the relations named ``lacking``."""

    def __init__(self, message: str, lacking: list[str]) -> None:
        super().__init__(message)
        self.lacking = lacking


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

    A refusal whose recorded reason is no overlap has that reason as its cause, whatever the replay finds. The last three
    are also the reasons for an unknown verdict. Codes are stored and printed in JSON; ``causes`` has what people read.
    """

    AGREED = "agreed"
    RIVAL_COMMITTED_MEANWHILE = "rival_committed_meanwhile"
    RIVAL_PERHAPS_COMMITTED_MEANWHILE = "rival_perhaps_committed_meanwhile"
    RIVAL_NOT_IN_EVIDENCE = "rival_not_in_evidence"
    DECIDED_UNDER_ANOTHER_RULE = "decided_under_another_rule"
    TRANSIENT_OVERLAP = "transient_overlap"
    OVERLAP_BELOW_A_MILLISECOND = "overlap_below_a_millisecond"
    UNIQUE_VIOLATION = "unique_violation"
    UNIQUE_VIOLATION_CALLED_OVERLAP = "unique_violation_called_overlap"
    DEADLOCK = "deadlock"
    SERIALIZATION_FAILURE = "serialization_failure"
    HOLD_NOT_LIVE = "hold_not_live"
    POLICY_CHANGED = "policy_changed"
    PARTY_TOO_LARGE = "party_too_large"
    TABLE_OF_ANOTHER_RESTAURANT = "table_of_another_restaurant"
    OTHER_REFUSAL = "other_refusal"
    REASON_NOT_RECORDED = "reason_not_recorded"
    CONFIRMED_OVER_CONFLICT = "confirmed_over_conflict"
    CONFIRMED_OVER_SHADOW = "confirmed_over_shadow"
    CONFIRMED_OVER_OTHER_TENANT = "confirmed_over_other_tenant"
    RULE_LOOSER_THEN = "rule_looser_then"
    EVIDENCE_MISSING = "evidence_missing"
    EVIDENCE_UNDECODABLE = "evidence_undecodable"
    RULE_UNKNOWN = "rule_unknown"


class Grade(StrEnum):
    """How sure an answer is.

    ``complete``: the check's own snapshot, and it says that it covers the request. ``inferred``: what was asked for is
    nowhere written, and taken from the booking's own allocations. ``partial``: a snapshot whose writer did not say what it
    is complete for, or with entries in quarantine; or none, as the idempotency shape has it, and the state is put together
    from captures and logs. ``none``: no usable snapshot, or no request.
    """

    COMPLETE = "complete"
    INFERRED = "inferred"
    PARTIAL = "partial"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Window:
    """A PostgreSQL ``tstzrange`` as evidence rows carry it: the text, and its bounds where they are finite instants.

    >>> from datetime import UTC
    >>> noon = datetime(2025, 11, 15, 12, tzinfo=UTC)
    >>> w = Window.of({"window": '["2025-11-15 12:00:00+00",)', "window_lower": noon})
    >>> str(w), w.length, w.upper
    ('["2025-11-15 12:00:00+00",)', None, None)
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
class Look:
    """When evidence was taken: the start of the transaction of the check, or else of the capture, whose snapshot it is."""

    at: datetime
    check_id: str | None
    capture_id: int | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """What was requested, one rival, and the part of time they share; ``overlap_s`` is null where that part has no end.

    ``first_seen`` is set for a rival that the check's own snapshot does not show as one: the look that did. ``is_named`` says
    that PostgreSQL named its key in the recorded error.
    """

    requested: Allocation
    rival: Allocation
    overlap: Window
    overlap_s: float | None
    first_seen: Look | None = None
    is_named: bool = False


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
class Change:
    """What a capture found of a check's row that an earlier one had read: columns that read otherwise; none: the row was gone.

    ``before_verdict`` is what was recorded in the version before, which ``before_capture_id`` had read.
    """

    capture_id: int
    before_capture_id: int | None
    before_verdict: str | None
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One recorded confirmation attempt with everything the store knows of it.

    ``rule`` is null when none is known to have been in force. ``alternatives`` is null where the evidence is too thin to
    verify one. ``recorded`` holds sqlstate, constraint, message and detail as the source recorded them, each or all null.
    ``tenant`` is set where the capture saw the rows of one restaurant only. In the idempotency ``shape`` ``recorded_at`` is
    the instant as it was stored, ``skew_s`` how far that is ahead of ``checked_at`` by its ``sibling``, null where it has
    none; ``leftovers`` is what is left of others' holds for the same time. ``not_read`` names tables of the source that the
    newest capture could not read. ``changes`` is what became of the row at the source after it was first read. ``next_look``
    is the first by which a rival that no evidence holds would have been seen, had it stayed.
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
    tenant: str | None = None
    shape: str = "audit"
    recorded_at: datetime | None = None
    skew_s: float | None = None
    sibling: str | None = None
    leftovers: tuple[Allocation, ...] = ()
    not_read: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    next_look: Look | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """An exclusion constraint on allocations, with the time it was in force.

    ``columns`` are the compared ones in the constraint's order: any with ``=``, and ``window`` with ``&&``. ``firm_only`` is
    the predicate ``NOT shadow``. ``definition`` is what pg_get_constraintdef prints. ``valid_to`` null: still in force.
    """

    name: str
    version: str
    definition: str
    columns: tuple[str, ...]
    firm_only: bool
    deferrable: bool
    initially_deferred: bool
    valid_from: datetime | None = None
    valid_to: datetime | None = None

    @property
    def equality(self) -> tuple[str, ...]:
        """Return the columns compared with ``=``."""
        return tuple(column for column in self.columns if column != "window")

    @property
    def key_columns(self) -> str:
        """Return the columns as PostgreSQL lists them in an error's detail: quoted where the word is reserved.

        >>> Rule("r", "given", "", ("resource_id", "window"), True, False, False).key_columns
        'resource_id, "window"'
        """
        return ", ".join('"window"' if column == "window" else column for column in self.columns)
