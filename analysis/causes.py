"""What each cause means: how it is told, and the evidence that proves it. Nothing here reads or writes anything."""

from analysis.model import Cause


def words(cause: str) -> str:
    """Return a cause, or its code, as it is told.

    >>> words("hold_not_live")
    'hold not found, expired or released'
    """
    return _CAUSES[Cause(cause)][0]


def proof(cause: str) -> str:
    """Return the evidence that a cause rests on."""
    return _CAUSES[Cause(cause)][1]


_CAUSES = {
    Cause.AGREED: ("agreed", "the replay comes to the recorded verdict"),
    Cause.RIVAL_COMMITTED_MEANWHILE: (
        "rival committed while the check waited",
        "the snapshot shows no rival; the key that PostgreSQL named is that of an allocation changed within the hour before or "
        "the minute after, which no evidence of more than a minute before had seen",
    ),
    Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE: (
        "rival perhaps committed while the check waited",
        "an overlap is recorded without the key it met, the snapshot shows no rival, and an overlapping allocation was changed "
        "within a minute",
    ),
    Cause.RIVAL_NOT_IN_EVIDENCE: (
        "rival not in evidence",
        "an overlap is recorded, and no evidence holds a rival of that instant: it rolled back, or was gone too soon",
    ),
    Cause.DECIDED_UNDER_ANOTHER_RULE: (
        "decided under another rule",
        "the recorded constraint is an overlap rule, but not the one replayed, which finds nothing",
    ),
    Cause.TRANSIENT_OVERLAP: (
        "transient overlap within its own transaction",
        "the check was confirmed, and a row with the instant of its own transaction shows each rival moved out of the way by "
        "commit: before the insert, or after it under a deferred rule",
    ),
    Cause.OVERLAP_BELOW_A_MILLISECOND: (
        "overlap below one millisecond",
        "all that is shared is shorter than the precision of writers in JavaScript, so that the overlap may be theirs",
    ),
    Cause.UNIQUE_VIOLATION: ("unique violation", "SQLSTATE 23505"),
    Cause.UNIQUE_VIOLATION_CALLED_OVERLAP: (
        "unique violation called an overlap",
        "likely, not certain: SQLSTATE P0001 of the wrapper, which catches both; no evidence shows a rival, and the snapshot "
        "holds the booking's own firm row with just that resource and window, which a second insert violates",
    ),
    Cause.DEADLOCK: ("deadlock", "SQLSTATE 40P01"),
    Cause.SERIALIZATION_FAILURE: ("serialization failure", "SQLSTATE 40001"),
    Cause.HOLD_NOT_LIVE: ("hold not found, expired or released", "SQLSTATE P0001, and a message that begins with 'hold'"),
    Cause.POLICY_CHANGED: ("policy version changed", "SQLSTATE P0003"),
    Cause.PARTY_TOO_LARGE: (
        "party does not fit",
        "SQLSTATE 23514 or P0001, and a message that names the party or the capacity",
    ),
    Cause.TABLE_OF_ANOTHER_RESTAURANT: ("table of another restaurant", "SQLSTATE 23503"),
    Cause.OTHER_REFUSAL: ("refused for another reason than an overlap", "any other SQLSTATE, or a constraint that is no rule"),
    Cause.REASON_NOT_RECORDED: ("refused, and no reason was recorded", "neither SQLSTATE nor rival"),
    Cause.CONFIRMED_OVER_CONFLICT: (
        "confirmed over a conflict",
        "a rival stood in the snapshot, or by rows captured later, under the rule in force: an alarm",
    ),
    Cause.CONFIRMED_OVER_SHADOW: (
        "confirmed over a shadow row",
        "under another rule than the one in force: each rival is a shadow row, which the rule in force does not look at",
    ),
    Cause.CONFIRMED_OVER_OTHER_TENANT: (
        "confirmed over another restaurant's row",
        "under another rule than the one in force: each rival is another restaurant's, which the rule in force lets be",
    ),
    Cause.RULE_LOOSER_THEN: (
        "confirmed under a looser rule",
        "under another rule than the one in force, which finds nothing: rivals of several kinds",
    ),
    Cause.EVIDENCE_MISSING: (
        "evidence missing",
        "no snapshot, no word of what was asked for, a scope that does not cover it, or a row of which nobody can tell whether "
        "it had gone",
    ),
    Cause.EVIDENCE_UNDECODABLE: ("evidence cannot be decoded", "what would decide is in quarantine"),
    Cause.RULE_UNKNOWN: ("rule in force not known", "no rule is known for that instant, or none that can be replayed exactly"),
}
