"""The sentences in which a check is told, in the local time of its restaurant. Nothing here reads or writes anything."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from analysis import phrases
from analysis.causes import words
from analysis.model import Allocation, Cause, Check, Conflict, Grade, Look, NearMiss, Rule, Verdict, Window

_SOURCES = {
    "snapshot": "in the check's own snapshot",
    "later evidence": "named by PostgreSQL; {own}, first seen so {seen}",
    "perhaps later": "{own}; changed within a minute of it, and first seen so {seen}",
    "other restaurant": "held by another restaurant, seen in other evidence",
    "named by PostgreSQL": "known only from PostgreSQL's error",
    "same request": "asked for in the same request",
    "reconstructed": "stood then, by rows captured since",
    "perhaps gone": "there by its timestamps, and perhaps gone by then",
    "moved before commit": "in the check's own snapshot, moved out of the way before commit",
}

_KINDS = {"maintenance": "a closure for maintenance", "merge_group": "a merge group"}


class Teller:
    """The sentences about one check, in the local time of its restaurant."""

    def __init__(self, check: Check, data: Mapping[str, Any]) -> None:
        self.check, self.data = check, data
        self.zone, self.zone_name = phrases.local_zone(check.timezone)
        self.day = check.requests[0].window.lower if check.requests else None
        # In a race the order is told by less than a millisecond.
        self.raced = any(c.rival.source in ("later evidence", "perhaps later") for c in check.conflicts)

    def title(self) -> str:
        """Name the check, its booking, its place and its time."""
        check = self.check
        tables = ", ".join(_resource(request) for request in check.requests) or "no table known"
        place = check.restaurant_name or f"restaurant {check.restaurant_id or 'unknown'}"
        at = check.checked_at.astimezone(self.zone)
        return (
            f"Check {check.check_id}   booking {check.booking_id}   {place}, {tables}   "
            f"checked {phrases.weekday(at)} {at:{'%Y %H:%M:%S.%f' if self.raced else '%Y %H:%M:%S'}} ({self.zone_name})"
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
                return f"Confirmed by the rule in force; {check.rule and check.rule.name} refuses it: {words(check.cause)}."
            case Cause.CONFIRMED_OVER_CONFLICT:
                return "Confirmed over a conflict: the rule should have refused this one."
            case Cause.DEADLOCK | Cause.SERIALIZATION_FAILURE:
                what = check.recorded["message"] or words(check.cause)
                rival = "None is named; an overlap stood in the way as well." if check.conflicts else "No rival is named."
                return f"Refused in a race with another transaction, perhaps for the same table: {what}. {rival}"
            case (
                Cause.OTHER_REFUSAL
                | Cause.UNIQUE_VIOLATION
                | Cause.HOLD_NOT_LIVE
                | Cause.POLICY_CHANGED
                | Cause.PARTY_TOO_LARGE
                | Cause.TABLE_OF_ANOTHER_RESTAURANT
            ):
                also = "; an overlap stood in the way as well" if check.replayed_verdict is Verdict.CONFLICT else ""
                return f"Refused for another reason: {check.recorded['message'] or words(check.cause)}{also}."
            case Cause.REASON_NOT_RECORDED:
                return "Refused; no reason was recorded, and its own snapshot shows nothing in the way."
            case _:
                word = "Refused" if refused else "Confirmed"
                return f"{word}; whether rightly, cannot be told: {words(check.cause)}."

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
        for name, conflict in zip(phrases.rival_names(len(check.conflicts)), check.conflicts, strict=True):
            lines += self._rival(name, conflict)
        if check.cause is Cause.TRANSIENT_OVERLAP:
            lines.append(
                "Either it was moved before C was inserted, or the rule was deferred, and looked at what was left at commit."
            )
        elif check.conflicts and all(c.rival.source == "perhaps gone" for c in check.conflicts):
            lines.append(
                "PostgreSQL accepted C, so it must have gone by then, although no evidence shows that."
                if check.skew_s is not None
                else "PostgreSQL accepted C: it had gone by then, or it came later and the recorded instant is off."
            )
        elif check.conflicts and check.rule:
            lines.append(f"Rule {check.rule.name} ({self._rule(check.rule)}) forbids that.")
        if len(self.data["to_clear"] or ()) > 1:
            lines.append(f"Each of the {len(check.conflicts)} alone stands in the way: all would have to go.")
        if check.recorded_verdict == "confirmed" and not check.conflicts:
            lines += [self._near_miss(miss) for miss in check.near_misses]
        if check.cause is Cause.RIVAL_COMMITTED_MEANWHILE:
            found = [conflict.first_seen for conflict in check.conflicts]
            between = " It committed between the two looks." if len(found) == 1 and found[0] else ""
            lines.append(f"PostgreSQL waits for rivals that are not committed yet; a snapshot cannot show them.{between}")
        if check.cause is Cause.RIVAL_NOT_IN_EVIDENCE:
            gone = f"had gone, or been changed, before anything looked again: {self._next_look()}"
            lines.append(f"No evidence shows the allocation that stood in the way. Either it rolled back, or it {gone}.")
            lines.append("Looks at the same tables every few minutes might have shown which.")
        return lines

    def _rival(self, name: str, conflict: Conflict) -> list[str]:
        rival, requested = conflict.rival, conflict.requested
        what = f"allocation {rival.allocation_id}" if rival.allocation_id else "an allocation whose id is not in evidence"
        if conflict.rival.kind == "request":
            what = "another part of the request"
        whose = f" of booking {rival.booking_id}" if rival.booking_id else ""
        kind = "" if rival.kind in ("booking", "request") else f", {_KINDS.get(rival.kind, f'a {rival.kind}')}"
        since = f", {'shadow' if rival.shadow else 'firm'}, unchanged since {self._since(rival.since)}" if rival.since else ""
        same = _same(self.check.rule)
        firm = "; neither is shadow" if self.check.rule and self.check.rule.firm_only and not rival.shadow else ""
        length = phrases.length(conflict.overlap_s)
        return [
            f"Let {name} be {what}{whose}{kind}: {_resource(rival)}, {self.window(rival.window)}{since}"
            f" ({_SOURCES[rival.source].format(own=self._own(rival), seen=self._look(conflict.first_seen))}).",
            f"C and {name} have {same}{firm};",
            f"and {self.window(requested.window)} and {self.window(rival.window)} share"
            f" {self.window(conflict.overlap)}: {length}.",
        ]

    def _own(self, rival: Allocation) -> str:
        """Say what the check's own snapshot has of a rival that only other evidence shows as one."""
        own = next((held for held in self.check.state if held.allocation_id == rival.allocation_id), None)
        if own is None or rival.allocation_id is None:
            return "not in this check's own snapshot"
        return f"in this check's own snapshot {'only as the shadow of a hold' if own.shadow else 'otherwise'}"

    def _look(self, look: Look | None) -> str:
        """Say which evidence was taken, and how long after this check began, or before."""
        if look is None:
            return "in other evidence"
        after = (look.at - self.check.checked_at).total_seconds()
        began = f"began {phrases.elapsed(abs(after))} {'later' if after >= 0 else 'earlier'}"
        if look.check_id is not None:
            return f"in the snapshot of check {look.check_id}, which {began}{'' if after >= 0 else ' but looked later'}"
        return f"by capture {look.capture_id}, which {began}"

    def _near_miss(self, miss: NearMiss) -> str:
        held = miss.allocation
        touches = "touches it" if miss.gap_s == 0 else f"lies {phrases.hours(miss.gap_s)} {miss.side} it"
        whose = f"booking {held.booking_id}" if held.booking_id else held.kind
        return f"Nearest {miss.side}: {whose}, {_resource(held)}, {self.window(held.window)}, {touches}."

    def _next_look(self) -> str:
        look = self.check.next_look
        if look is None:
            return "nothing has since"
        after = f"{phrases.elapsed((look.at - self.check.checked_at).total_seconds())} later"
        return f"the snapshot of check {look.check_id}, {after}" if look.check_id else f"capture {look.capture_id}, {after}"

    def _rule(self, rule: Rule) -> str:
        if rule.valid_from:
            # Only of this one it is documented since when.
            since = "in force since" if rule.version == "v12" else "seen in force since"
            return f"{rule.version}, {since} {rule.valid_from:%d %b %Y %H:%M} UTC"
        until = f"in force until {rule.valid_to:%d %b %Y %H:%M} UTC" if rule.valid_to else "replayed as if in force"
        return f"{rule.version}, {until}"

    def message_heading(self) -> str:
        """Say whose words follow, and whether they were recorded."""
        data = self.data
        recorded = self.check.recorded
        if recorded["message"] is None:
            return "Nothing was recorded; PostgreSQL would say:"
        if not self.check.conflicts or self.check.cause is Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE:
            return "PostgreSQL said:"
        if (recorded["message"], recorded["detail"]) == (data["message"], data["detail"]):
            return "PostgreSQL said, and would say again:"
        if recorded["message"] == data["message"] and not recorded["detail"]:
            return "PostgreSQL said, and would say in full:"
        if recorded["message"] == data["message"] and any(conflict.is_named for conflict in self.check.conflicts):
            return "PostgreSQL said, as it prints it in UTC:"
        return f"Recorded was {recorded['message']!r}; of this overlap PostgreSQL would say:"

    def alternatives(self) -> str:
        """List what would have fitted."""
        alternatives = self.check.alternatives or ()
        if not alternatives:
            return "nothing on that day that this evidence can verify"
        told = []
        for alternative in alternatives:
            name = f"table {alternative.label or alternative.resource_id}"
            start = phrases.clock(alternative.window.lower, self.zone)
            how = f"seats {alternative.seats}" if alternative.shift_s == 0 else phrases.shift(alternative.shift_s)
            told.append(f"{name} at {start} ({how})")
        return " · ".join(told)

    def basis(self) -> str:
        """Say to which cause it comes, and which evidence the answer rests on."""
        check = self.check
        cause = "" if check.cause is Cause.AGREED else f"Cause: {words(check.cause)}. "
        return f"{cause}Evidence: {check.grade}. {self._evidence()}"

    def _evidence(self) -> str:
        check = self.check
        if check.grade is Grade.NONE:
            return f"No usable snapshot was recorded with this check (capture {check.capture_id})."
        held = phrases.counted(len(check.state), "allocations")
        if check.shape == "idempotency":
            return (
                f"This shape records successes and no snapshot: the state at the check is put "
                f"together from captures and logs ({held} at the time asked for), read by capture {check.capture_id}."
            )
        covers = (
            f"covers this restaurant for {self.window(check.scope, day=True)}"
            if check.scope
            else "does not say what it is complete for"
        )
        return f"The check's own snapshot {covers} ({held}), read by capture {check.capture_id}."

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
        at = phrases.clock(instant, self.zone)
        return at if same_day and not day else f"{phrases.weekday(local)} {at}"

    def _since(self, instant: datetime) -> str:
        written = f"{instant.astimezone(self.zone):%d %b %H:%M:%S.%f}"
        if not self.raced:
            return written[:-3]
        after = (instant - self.check.checked_at).total_seconds()
        return f"{written}, {phrases.elapsed(abs(after))} {'after' if after >= 0 else 'before'} this check began"


def _same(rule: Rule | None) -> str:
    columns = [column.removesuffix("_id").removeprefix("resource_") for column in rule.equality] if rule else []
    if not columns:
        return "overlapping windows"
    return f"the same {', '.join(columns[:-1])} and {columns[-1]}" if len(columns) > 1 else f"the same {columns[0]}"


def _resource(allocation: Allocation) -> str:
    kind = (allocation.resource_type or "resource").replace("_", " ")
    return f"{kind} {allocation.label or allocation.resource_id or 'unknown'}"
