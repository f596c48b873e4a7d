"""A check → evidence as data → the same told as text or HTML. Nothing here reads or writes anything."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from string import ascii_uppercase
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from analysis.model import Allocation, Cause, Check, Conflict, Grade, NearMiss, Rule, Verdict, Window

# Request is C, as in the story; rivals take the other letters.
_RIVAL_NAMES = ascii_uppercase.replace("C", "")
_SOURCES = {
    "snapshot": "in the check's own snapshot",
    "later evidence": "named by PostgreSQL; not in this check's own snapshot, seen in other evidence",
    "perhaps later": "not in this check's own snapshot; changed within a minute of it, by other evidence",
    "other restaurant": "held by another restaurant, seen in other evidence",
    "named by PostgreSQL": "known only from PostgreSQL's error",
    "same request": "asked for in the same request",
    "reconstructed": "stood then, by rows captured since",
    "perhaps gone": "seen before, and perhaps gone by then",
    "moved before commit": "in the check's own snapshot, moved out of the way before commit",
}


_COUNTED = ("snapshot", "reconstructed", "other restaurant", "same request", "later evidence", "named by PostgreSQL")


def evidence(check: Check) -> dict[str, Any]:
    """Return what is known of a check as plain data: the object that ``forensics explain --json`` prints.

    Instants are ISO 8601 in UTC, windows as PostgreSQL prints them in UTC, null is unknown. ``message`` and ``detail``
    are PostgreSQL's words: rebuilt from the replay where it finds a rival (of several the one that was recorded), else as
    recorded.
    """
    message, detail = _said(check)
    return {
        "check_id": check.check_id,
        "booking_id": check.booking_id,
        "restaurant_id": check.restaurant_id,
        "checked_at": _iso(check.checked_at),
        "recorded_verdict": check.recorded_verdict,
        "replayed_verdict": str(check.replayed_verdict),
        "cause": str(check.cause),
        "unknown_because": None if check.unknown_because is None else str(check.unknown_because),
        "grade": str(check.grade),
        "rule": check.rule.name if check.rule else None,
        "message": message,
        "detail": detail,
        "recorded": dict(check.recorded),
        "request": {
            "hold_id": check.hold_id,
            "resources": [
                {"resource_type": r.resource_type, "resource_id": r.resource_id, "seats": r.seats} for r in check.requests
            ],
            "window": str(check.requests[0].window) if check.requests else None,
            "source": check.requests[0].source if check.requests else None,
        },
        "rivals": [
            {
                "allocation_id": c.rival.allocation_id,
                "booking_id": c.rival.booking_id,
                "restaurant_id": c.rival.restaurant_id,
                "kind": c.rival.kind,
                "resource_type": c.rival.resource_type,
                "resource_id": c.rival.resource_id,
                "window": str(c.rival.window),
                "since": _iso(c.rival.since),
                "overlap": str(c.overlap),
                "overlap_s": c.overlap_s,
                "source": c.rival.source,
            }
            for c in check.conflicts
        ],
        "to_clear": _to_clear(check),
        "alternatives": None
        if check.alternatives is None
        else [
            {"resource_id": a.resource_id, "window": str(a.window), "shift_s": a.shift_s, "seats": a.seats}
            for a in check.alternatives
        ],
        "near_misses": [
            {
                "allocation_id": miss.allocation.allocation_id,
                "booking_id": miss.allocation.booking_id,
                "resource_id": miss.allocation.resource_id,
                "window": str(miss.allocation.window),
                "side": miss.side,
                "gap_s": miss.gap_s,
            }
            for miss in check.near_misses
        ],
        "timeline": [
            {
                "role": role,
                "allocation_id": a.allocation_id,
                "booking_id": a.booking_id,
                "resource_type": a.resource_type,
                "resource_id": a.resource_id,
                "window": str(a.window),
                "shadow": a.shadow,
                "source": a.source,
            }
            for role, a in (
                *(("request", request) for request in check.requests),
                *(("rival", conflict.rival) for conflict in check.conflicts),
                *(("held", held) for held in check.state if held.allocation_id not in _rival_ids(check)),
            )
        ],
        "notes": _notes(check),
        "cannot_see": _cannot_see(check),
        "basis": {
            "capture_id": check.capture_id,
            "captured_at": _iso(check.captured_at),
            "tenant": check.tenant,
            "scope": None if check.scope is None else str(check.scope),
            "snapshot_allocations": len(check.state),
            "rule_definition": check.rule.definition if check.rule else None,
        },
    }


def render_text(check: Check, data: Mapping[str, Any]) -> str:
    """Tell a check as a short proof in plain text, in the restaurant's local time."""
    told = _Teller(check)
    lines = [told.title(), told.headline()]
    lines += ["", *(f"  {line}" for line in told.proof())] if told.proof() else []
    if data["message"]:
        said = "\n".join(filter(None, (data["message"], data["detail"])))
        lines += ["", told.message_heading(data), *(f"  {line}" for line in said.split("\n"))]
    if check.alternatives is not None and check.conflicts:
        lines += ["", "What would have fitted then, each verified against the same state:", f"  {told.alternatives()}"]
    lines += ["", told.basis()]
    lines += [f"Note: {note}." for note in data["notes"]]
    lines += [f"Cannot be seen: {limit}." for limit in data["cannot_see"]]
    return "\n".join(_printable(line) for line in lines)


def render_html(check: Check, data: Mapping[str, Any], timeline: str = "") -> str:
    """Tell the same in one HTML block, under it a timeline drawn as SVG, if any; every text of the evidence is escaped."""
    told = _Teller(check)
    refused, rivals = check.recorded_verdict == "refused", bool(check.conflicts)
    colour = "#b3261e" if rivals else "#6b5b00" if refused or check.replayed_verdict is Verdict.UNKNOWN else "#0b6e4f"
    parts = [
        f"<div><small>{escape(told.title())}</small></div>",
        f'<div><strong style="color:{colour}">{escape(told.headline())}</strong></div>',
        *(f"<div>{escape(line)}</div>" for line in told.proof()),
    ]
    if data["rivals"]:
        columns = ("kind", "booking_id", "window", "overlap", "source")
        head = "".join(f"<th>{column.replace('_id', '')}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(rival[column]))}</td>" for column in columns) + "</tr>"
            for rival in data["rivals"]
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if data["message"]:
        said = "\n".join(filter(None, (data["message"], data["detail"])))
        parts.append(f'<div>{escape(told.message_heading(data))}</div><pre style="white-space:pre-wrap">{escape(said)}</pre>')
    if check.alternatives is not None and check.conflicts:
        parts.append(f"<div>What would have fitted then: {escape(told.alternatives())}</div>")
    parts.append(f"<div><small>{escape(told.basis())}</small></div>")
    parts += [f"<div><small>Note: {escape(note)}.</small></div>" for note in data["notes"]]
    parts += [f"<div><small>Cannot be seen: {escape(limit)}.</small></div>" for limit in data["cannot_see"]]
    if timeline:
        # As an image of its own: nothing in it can run, and its ids meet no others on the page.
        picture = b64encode(timeline.encode()).decode()
        parts.append(f'<img alt="The tables around the request" src="data:image/svg+xml;base64,{picture}">')
    return _printable(f'<div style="max-width:60em;line-height:1.5">{"".join(parts)}</div>', keep="\n")


class _Teller:
    """The sentences about one check, in the local time of its restaurant."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.zone, self.zone_name = local_zone(check.timezone)
        self.day = check.requests[0].window.lower if check.requests else None

    def title(self) -> str:
        check = self.check
        tables = ", ".join(_resource(request) for request in check.requests) or "no table known"
        place = check.restaurant_name or f"restaurant {check.restaurant_id or 'unknown'}"
        at = check.checked_at.astimezone(self.zone)
        return (
            f"Check {check.check_id}   booking {check.booking_id}   {place}, {tables}   "
            f"checked {_weekday(at)} {at:%Y %H:%M:%S} ({self.zone_name})"
        )

    def headline(self) -> str:
        """Say both verdicts and what they come to in one sentence."""
        check = self.check
        refused = check.recorded_verdict == "refused"
        match check.cause:
            case Cause.AGREED if refused and check.recorded["sqlstate"] is None and check.recorded["message"] is None:
                return "Refused; no reason was recorded, but an overlap stood in the way and was reason enough."
            case Cause.AGREED if check.shape == "idempotency":
                return "Confirmed; nothing that this evidence can show stood in the way."
            case Cause.AGREED:
                return "Refused, and rightly so." if refused else "Confirmed, and rightly so: nothing stood in the way."
            case Cause.RIVAL_COMMITTED_MEANWHILE:
                return "Refused, though its own snapshot shows nothing in the way: the rival was not committed yet."
            case Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE:
                return (
                    "Refused, though its own snapshot shows nothing in the way, and no key is recorded: "
                    "perhaps a rival that was not committed yet."
                )
            case Cause.OVERLAP_BELOW_A_MILLISECOND:
                return "Refused by the rule, over less than a millisecond: the overlap may be an artefact of a writer's clock."
            case Cause.DECIDED_UNDER_ANOTHER_RULE:
                other = check.recorded["constraint"] or check.recorded["message"]
                return f"Refused under another rule, {other}; the rule in force finds nothing in the way."
            case Cause.RIVAL_NOT_IN_EVIDENCE:
                return "Refused; by whom, this store cannot tell."
            case Cause.TRANSIENT_OVERLAP:
                return "Confirmed, and rightly so: its own transaction moved what overlapped out of the way."
            case Cause.UNIQUE_VIOLATION_CALLED_OVERLAP:
                return (
                    "Refused as an overlap, yet nothing in evidence overlaps: the booking already held just that, "
                    "so it was likely a unique violation."
                )
            case Cause.CONFIRMED_OVER_SHADOW | Cause.CONFIRMED_OVER_OTHER_TENANT | Cause.RULE_LOOSER_THEN:
                return f"Confirmed by the rule in force; {check.rule and check.rule.name} refuses it: {check.cause.words}."
            case Cause.CONFIRMED_OVER_CONFLICT:
                return "Confirmed over a conflict: the rule should have refused this one."
            case Cause.DEADLOCK | Cause.SERIALIZATION_FAILURE:
                what = check.recorded["message"] or check.cause.words
                return f"Refused in a race with another transaction, perhaps for the same table: {what}. No rival is named."
            case (
                Cause.OTHER_REFUSAL
                | Cause.UNIQUE_VIOLATION
                | Cause.HOLD_NOT_LIVE
                | Cause.POLICY_CHANGED
                | Cause.PARTY_TOO_LARGE
                | Cause.TABLE_OF_ANOTHER_RESTAURANT
            ):
                also = "; an overlap stood in the way as well" if check.replayed_verdict is Verdict.CONFLICT else ""
                return f"Refused for another reason: {check.recorded['message'] or check.cause.words}{also}."
            case Cause.REASON_NOT_RECORDED:
                return "Refused; no reason was recorded, and its own snapshot shows nothing in the way."
            case _:
                word = "Refused" if refused else "Confirmed"
                return f"{word}; whether rightly, cannot be told: {check.cause.words}."

    def proof(self) -> list[str]:
        """Show the request, every rival, what they share and the rule that forbids it, line by line."""
        check = self.check
        if not check.requests:
            return []
        windows = {request.window: self.window(request.window, day=True) for request in check.requests}
        asked = [
            f"{' and '.join(_resource(request) for request in check.requests if request.window == window)}, {told}"
            for window, told in windows.items()
        ]
        lines = [f"Let C be the request: {'; '.join(asked)}."]
        for name, conflict in zip(rival_names(len(check.conflicts)), check.conflicts, strict=True):
            lines += self._rival(name, conflict)
        if check.cause is Cause.TRANSIENT_OVERLAP:
            lines.append("It was moved before the insert, or the rule was deferred: then it looks at what is left at commit.")
        elif check.conflicts and all(c.rival.source == "perhaps gone" for c in check.conflicts):
            lines.append("PostgreSQL accepted C, so that it will have gone by then; nothing in evidence says so.")
        elif check.conflicts and check.rule:
            lines.append(f"Rule {check.rule.name} ({self._rule(check.rule)}) forbids that.")
        if len(_to_clear(check) or ()) > 1:
            lines.append(f"Each of the {len(check.conflicts)} alone stands in the way: all would have to go.")
        if check.recorded_verdict == "confirmed" and not check.conflicts:
            lines += [self._near_miss(miss) for miss in check.near_misses]
        if check.cause is Cause.RIVAL_COMMITTED_MEANWHILE:
            lines.append("PostgreSQL waits for rivals that are not committed yet; a snapshot cannot show them.")
        return lines

    def _rival(self, name: str, conflict: Conflict) -> list[str]:
        rival, requested = conflict.rival, conflict.requested
        what = f"allocation {rival.allocation_id}" if rival.allocation_id else "an allocation whose id is not in evidence"
        if conflict.rival.kind == "request":
            what = "another part of the request"
        whose = f" of booking {rival.booking_id}" if rival.booking_id else ""
        kind = "" if rival.kind in ("booking", "request") else f", a {rival.kind.replace('_', ' ')}"
        since = f", {'shadow' if rival.shadow else 'firm'}, unchanged since {self._instant(rival.since)}" if rival.since else ""
        same = _same(self.check.rule)
        firm = "; neither is shadow" if self.check.rule and self.check.rule.firm_only and not rival.shadow else ""
        length = _length(conflict.overlap_s)
        return [
            f"Let {name} be {what}{whose}{kind}: {_resource(rival)}, {self.window(rival.window)}{since}"
            f" ({_SOURCES[rival.source]}).",
            f"C and {name} have {same}{firm};",
            f"and {self.window(requested.window)} and {self.window(rival.window)} share"
            f" {self.window(conflict.overlap)}: {length}.",
        ]

    def _near_miss(self, miss: NearMiss) -> str:
        held = miss.allocation
        touches = "touches it" if miss.gap_s == 0 else f"lies {_hours(miss.gap_s)} {miss.side} it"
        whose = f"booking {held.booking_id}" if held.booking_id else held.kind
        return f"Nearest {miss.side}: {whose}, {_resource(held)}, {self.window(held.window)}, {touches}."

    def _rule(self, rule: Rule) -> str:
        if rule.valid_from:
            return f"{rule.version}, in force since {rule.valid_from:%d %b %Y %H:%M} UTC"
        until = f"in force until {rule.valid_to:%d %b %Y %H:%M} UTC" if rule.valid_to else "replayed as if in force"
        return f"{rule.version}, {until}"

    def message_heading(self, data: Mapping[str, Any]) -> str:
        recorded = self.check.recorded
        if recorded["message"] is None:
            return "Nothing was recorded; PostgreSQL would say:"
        if not self.check.conflicts or self.check.cause is Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE:
            return "PostgreSQL said:"
        if (recorded["message"], recorded["detail"]) == (data["message"], data["detail"]):
            return "PostgreSQL said, and would say again:"
        return f"Recorded was {recorded['message']!r}; of this overlap PostgreSQL would say:"

    def alternatives(self) -> str:
        alternatives = self.check.alternatives or ()
        if not alternatives:
            return "nothing on that day that this evidence can verify"
        told = []
        for alternative in alternatives:
            name = f"table {alternative.label or alternative.resource_id}"
            start = _clock(alternative.window.lower, self.zone)
            how = f"seats {alternative.seats}" if alternative.shift_s == 0 else _shift(alternative.shift_s)
            told.append(f"{name} at {start} ({how})")
        return " · ".join(told)

    def basis(self) -> str:
        """Say which evidence the answer rests on."""
        check = self.check
        if check.grade is Grade.NONE:
            return f"Evidence: none. No usable snapshot was recorded with this check (capture {check.capture_id})."
        held = "1 allocation" if len(check.state) == 1 else f"{len(check.state)} allocations"
        if check.shape == "idempotency":
            return (
                f"Evidence: {check.grade}. This shape records successes and no snapshot: the state at the check is put "
                f"together from captures and logs ({held} at the time asked for); as read by capture {check.capture_id}."
            )
        covers = (
            f"covers this restaurant for {self.window(check.scope, day=True)}"
            if check.scope
            else "does not say what it is complete for"
        )
        return f"Evidence: {check.grade}. The check's own snapshot {covers} ({held}); as read by capture {check.capture_id}."

    def window(self, window: Window, *, day: bool = False) -> str:
        """Write a window as [18:00, 19:30) local time, with dates only where the reader needs them."""
        if window.text == "empty":
            return "the empty window"
        lower = self._bound(window.lower, window.text.split(",")[0][1:], day=day)
        days = {bound.astimezone(self.zone).date() for bound in (window.lower, window.upper) if bound is not None}
        upper = self._bound(window.upper, window.text.split(",")[-1][:-1], day=day and len(days) == 2)
        return f"{window.text[0]}{lower}, {upper}{window.text[-1]}"

    def _bound(self, instant: datetime | None, text: str, *, day: bool) -> str:
        if instant is None:
            return text or "no bound"
        local = instant.astimezone(self.zone)
        same_day = self.day is not None and local.date() == self.day.astimezone(self.zone).date()
        return _clock(instant, self.zone) if same_day and not day else f"{_weekday(local)} {_clock(instant, self.zone)}"

    def _instant(self, instant: datetime) -> str:
        return f"{instant.astimezone(self.zone):%d %b %H:%M:%S.%f}"[:-3]


def _to_clear(check: Check) -> list[str] | None:
    """List the fewest allocations without which the check would have passed; null where the evidence cannot tell.

    Each rival alone is reason enough, so that these are all of them. A request that is its own rival never passes.
    """
    in_the_way = [c.rival for c in check.conflicts if c.rival.source != "moved before commit"]
    ids = {rival.allocation_id for rival in in_the_way if rival.allocation_id is not None}
    doubtful = any(rival.allocation_id is None or rival.source in ("perhaps later", "perhaps gone") for rival in in_the_way)
    if doubtful or check.replayed_verdict is Verdict.UNKNOWN or check.grade is not Grade.COMPLETE:
        return None
    return sorted(ids)


def _rival_ids(check: Check) -> set[str | None]:
    return {conflict.rival.allocation_id for conflict in check.conflicts}


def _said(check: Check) -> tuple[str | None, str | None]:
    """Return PostgreSQL's message and detail for this check."""
    recorded = check.recorded["message"], check.recorded["detail"]
    rule = check.rule
    conflicts = [c for c in check.conflicts if c.rival.source in _COUNTED]
    if not conflicts or rule is None:
        return recorded
    message = f'conflicting key value violates exclusion constraint "{rule.name}"'
    details = [
        f"Key ({rule.key_columns})=({_key(rule, c.requested)}) "
        f"conflicts with existing key ({rule.key_columns})=({_key(rule, c.rival)})."
        for c in conflicts
    ]
    return message, recorded[1] if recorded[1] in details else details[0]


def _key(rule: Rule, allocation: Allocation) -> str:
    values = [getattr(allocation, column) for column in rule.columns]
    return ", ".join("null" if value is None else {True: "t", False: "f"}.get(value, str(value)) for value in values)


def _notes(check: Check) -> list[str]:
    """List what a reader of the source's own rows must know to find this check in them, and what else lies beside it."""
    notes = []
    if check.skew_s and check.recorded_at is not None:
        hours = f"{abs(check.skew_s) / 3600:g} h {'ahead of' if check.skew_s > 0 else 'behind'}"
        notes.append(
            f"created_at says {_iso(check.recorded_at)}, {hours} what {check.sibling} say of the same act: its default takes "
            "UTC for the session's local time; corrected here"
        )
    notes += [
        f"left over beside it: {left.kind} {left.allocation_id} of booking {left.booking_id} for an overlapping time, never "
        "confirmed: refused, or given up"
        for left in check.leftovers
    ]
    return notes


def _cannot_see(check: Check) -> list[str]:
    """List what the evidence of this check cannot show, so that nobody takes silence for proof."""
    limits = []
    if check.shape == "idempotency":
        limits += [
            "refusals: they roll back, and only what held before them is left",
            "earlier confirmations under the same key: the row is overwritten in place",
            "allocations that came and went between two captures, where no log tells of them",
        ]
        if check.skew_s is None:
            limits.append("whether the recorded instant is right: nothing else was written with it, and its default may be off")
    elif check.grade is not Grade.NONE:
        limits.append("allocations that were not committed when the snapshot was taken, unless later evidence shows them")
    if check.requests and check.requests[0].source == "inferred":
        limits.append("what was asked for: it is inferred from the booking's own allocations")
    if (check.grade is Grade.PARTIAL and check.shape == "audit") or (check.grade is Grade.INFERRED and check.scope is None):
        limits.append("whether the snapshot lists everything that stood in the way")
    if check.cause is Cause.RIVAL_NOT_IN_EVIDENCE:
        limits.append("a rival that was deleted or changed before any capture or other snapshot saw it")
    if check.cause is Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE:
        limits.append("for whom PostgreSQL waited: no key was recorded")
    limits += [f"what {relation} would tell: the source has none that could be read" for relation in check.not_read]
    if check.tenant is not None:
        limits.append(f"any other restaurant: the capture was made as tenant {check.tenant}, and shown its rows only")
    if any(conflict.rival.source == "later evidence" for conflict in check.conflicts):
        limits.append("the instant at which the rival's transaction committed")
    if check.alternatives is not None and check.conflicts:
        limits.append("the party's size and the opening hours: alternatives are judged by seats and overlap alone")
    return limits


def _same(rule: Rule | None) -> str:
    columns = [column.removesuffix("_id").removeprefix("resource_") for column in rule.equality] if rule else []
    if not columns:
        return "overlapping windows"
    return f"the same {', '.join(columns[:-1])} and {columns[-1]}" if len(columns) > 1 else f"the same {columns[0]}"


def rival_names(count: int) -> list[str]:
    """Return a letter for each rival, with a number where the letters run out; C stays free for the request.

    >>> rival_names(27)[1:4], rival_names(27)[-2:]
    (['B', 'D', 'E'], ['A2', 'B2'])
    """
    return [_RIVAL_NAMES[i % 25] + (str(i // 25 + 1) if i >= 25 else "") for i in range(count)]


def _resource(allocation: Allocation) -> str:
    kind = (allocation.resource_type or "resource").replace("_", " ")
    return f"{kind} {allocation.label or allocation.resource_id}"


def local_zone(name: str | None) -> tuple[ZoneInfo, str]:
    """Return a restaurant's time zone and how to call it; UTC where its name is unknown.

    >>> local_zone("America/New_York")[1], local_zone("Mars/Olympus")[1]
    ('New York', 'UTC')
    """
    try:
        return ZoneInfo(name or "UTC"), (name or "UTC").rpartition("/")[2].replace("_", " ")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        return ZoneInfo("UTC"), "UTC"


def _weekday(local: datetime) -> str:
    return f"{local:%a} {local.day} {local:%b}"


def _clock(instant: datetime | None, zone: ZoneInfo) -> str:
    if instant is None:
        return "no bound"
    local = instant.astimezone(zone)
    form = "%H:%M:%S.%f" if local.microsecond else "%H:%M:%S" if local.second else "%H:%M"
    # An hour that the clocks show twice is told apart by its offset's name.
    twice = local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset()
    return local.strftime(f"{form} %Z" if twice else form)


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "without end"
    if seconds == 0:
        return "a single instant"
    if seconds < 0.001:
        return f"{seconds * 1_000_000:.0f} microseconds"
    minutes, rest = divmod(seconds, 60)
    return f"{seconds:g} s" if rest else f"{minutes:.0f} minute{'' if minutes == 1 else 's'}"


def _shift(seconds: float) -> str:
    return f"{_hours(seconds)} {'later' if seconds > 0 else 'earlier'}"


def _hours(seconds: float) -> str:
    hours, minutes = divmod(abs(seconds) / 60, 60)
    parts = [f"{hours:g} h"] * (hours > 0) + [f"{minutes:g} min"] * (minutes > 0)
    return " ".join(parts)


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _printable(text: str, keep: str = "") -> str:
    """Replace control characters, which a terminal would obey, by a visible mark."""
    return "".join(c if c in keep or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
