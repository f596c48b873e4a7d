"""A check → evidence as data → the same told as text or HTML. Nothing here reads or writes anything."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from analysis.model import Allocation, Cause, Check, Grade, Look, Rule, Verdict
from analysis.phrases import printable
from analysis.teller import Teller

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
                "first_seen": _look(c.first_seen),
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
        "next_look": _look(check.next_look),
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
    told = Teller(check, data)
    lines = [told.title(), told.headline()]
    lines += ["", *(f"  {line}" for line in told.proof())] if told.proof() else []
    if data["message"]:
        said = "\n".join(filter(None, (data["message"], data["detail"])))
        lines += ["", told.message_heading(), *(f"  {line}" for line in said.split("\n"))]
    if check.alternatives is not None and check.conflicts:
        lines += ["", "What would have fitted then, each verified against the same state:", f"  {told.alternatives()}"]
    lines += ["", told.basis()]
    lines += [f"Note: {note}." for note in data["notes"]]
    lines += [f"Cannot be seen: {limit}." for limit in data["cannot_see"]]
    return "\n".join(printable(line) for line in lines)


def render_html(check: Check, data: Mapping[str, Any], timeline: str = "") -> str:
    """Tell the same in one HTML block, under it a timeline drawn as SVG, if any; every text of the evidence is escaped."""
    told = Teller(check, data)
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
        parts.append(f'<div>{escape(told.message_heading())}</div><pre style="white-space:pre-wrap">{escape(said)}</pre>')
    if check.alternatives is not None and check.conflicts:
        parts.append(f"<div>What would have fitted then: {escape(told.alternatives())}</div>")
    parts.append(f"<div><small>{escape(told.basis())}</small></div>")
    parts += [f"<div><small>Note: {escape(note)}.</small></div>" for note in data["notes"]]
    parts += [f"<div><small>Cannot be seen: {escape(limit)}.</small></div>" for limit in data["cannot_see"]]
    if timeline:
        # As an image of its own: nothing in it can run, and its ids meet no others on the page.
        picture = b64encode(timeline.encode()).decode()
        parts.append(f'<img alt="The tables around the request" src="data:image/svg+xml;base64,{picture}">')
    return printable(f'<div style="max-width:60em;line-height:1.5">{"".join(parts)}</div>', keep="\n")


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
    # Another session may have printed the same key in another zone or style.
    conflicts = sorted((c for c in check.conflicts if c.rival.source in _COUNTED), key=lambda c: not c.is_named)
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
    for change in check.changes:
        if change.changed:
            other = f"; it was recorded as {change.before_verdict}" if "confirmed" in change.changed else ""
            notes.append(
                f"the row was changed in place at the source: capture {change.capture_id} read another "
                f"{', '.join(change.changed)} than capture {change.before_capture_id}{other}"
            )
        else:
            notes.append(f"the row was gone from the source when capture {change.capture_id} looked")
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
            if check.checked_at > check.captured_at:
                limits.append("when it was checked: the recorded instant is later than the capture that read it, and so is off")
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


def _look(look: Look | None) -> dict[str, Any] | None:
    return None if look is None else {"at": _iso(look.at), "check_id": look.check_id, "capture_id": look.capture_id}


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
