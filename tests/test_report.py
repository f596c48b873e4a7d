"""What a terminal shows of an answer: every sentence has its number, and stands there only where it has something to say."""

from datetime import UTC, datetime
from typing import Any

import pytest

from analysis import report

FOUND = {"rows_read": 10, "rows_new": 4, "rows_changed": 3, "rows_vanished": 2, "rows_rescued": 0}
MANIFEST: dict[str, Any] = {
    "capture_id": 5,
    "role": "reader",
    "server_version": "18.1",
    "shape": "audit",
    "tenant": None,
    "seconds": 1.4,
    "relations": [{"relation": "checks", **FOUND}, {"relation": "rules", **FOUND, "rows_new": 0}],
    "missing": {},
    "lacking": [],
    "empty": None,
    "moved": False,
    "open": [],
    "rules": [{"rule": "no_overlap", "since_capture": 3, "was_otherwise": False, "is_gone": False}],
    "quarantined": 0,
    "leftovers": {},
    "chained_to": "a" * 64,
    "chain_hash": "b" * 64,
}
AT = datetime(2025, 11, 20, 3, tzinfo=UTC)


def test_a_capture_in_full() -> None:
    assert report.captured(MANIFEST, []) == [
        "Read 10 checks (audit shape) in 1.4 s",
        "as reader on PostgreSQL 18.1, one snapshot, row security off",
        "4 new · 6 changed in place · 4 vanished at the source (kept here)",
        "0 quarantined",
        "Rule no_overlap unchanged since capture 3",
        "Chain aaaaaa…aaaaaa → bbbbbb…bbbbbb",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"relations": [{"relation": "checks", **FOUND, "rows_rescued": 1}]},
            "4 new · 3 changed in place · 2 vanished at the source (kept here) · "
            "1 rescued: committed late, after capture 4 had passed them",
        ),
        (
            {"open": [{"row_xid": "77", "begun_at": AT, "open_since_capture": None}]},
            "Still to come, if at all: transaction 77 has written and not committed, open since 2025-11-20 03:00:00Z",
        ),
        (
            {"open": [{"row_xid": "77", "begun_at": None, "open_since_capture": 2}]},
            "Still to come, if at all: transaction 77 has written and not committed, open since before capture 2",
        ),
        (
            {"moved": True},
            "Is this the right source? The store's capture 4 read another server or database: whatever differs is taken for "
            "changed, or vanished",
        ),
        ({"tenant": "R"}, "as reader on PostgreSQL 18.1, one snapshot, only what tenant R may see"),
        ({"empty": "the table is empty"}, "No checks to read: the table is empty"),
        ({"missing": {"archive": "no archive"}}, "Not there to read: no archive"),
        ({"lacking": ["a.b", "c.d"]}, "No such column, read as null: a.b, c.d"),
        (
            {"leftovers": {"hold": 1, "shadow row": 2}},
            "Left over from holds that were never confirmed, refused or given up: 1 hold, 2 shadow rows",
        ),
        ({"rules": []}, "No exclusion constraint on allocations: nothing there forbids an overlap"),
    ],
)
def test_what_a_capture_says_where_there_is_something_to_say(changes: dict[str, Any], line: str) -> None:
    assert line in report.captured(MANIFEST | changes, [])
    assert line not in report.captured(MANIFEST, [])


def test_a_capture_says_why_rows_are_in_quarantine() -> None:
    reasons = [{"rows": 2, "reason": "window is not a range"}, {"rows": 1, "reason": "snapshot is not an object"}]
    told = report.captured(MANIFEST | {"quarantined": 3}, reasons)
    assert "3 quarantined: 2 window is not a range, 1 snapshot is not an object" in told


@pytest.mark.parametrize(
    ("derived", "of_source", "line"),
    [
        ("compared", True, "captured, every derived relation what follows from it, and the source holds the same."),
        ("of another version", False, "captured; what another version of the kit derived from it was not compared."),
        ("none", False, "captured."),
    ],
)
def test_verify_says_no_more_than_it_compared(derived: report.Derived, of_source: bool, line: str) -> None:
    assert report.as_it_was(derived, of_source=of_source) == f"Every block holds what was {line}"


def test_without_a_log_nothing_is_told_of_it() -> None:
    unseen = {"recorded": 1, "logged": 0, "computed_again": 0}
    told = report.cache({"stale_bound": 0.01, "lookups": 0, "uniqueness": {}, "best_ttl": None, "unseen": unseen})
    assert told[0].startswith("Recorded in the idempotency shape: 1 confirmation. ")
    assert told[1:] == ["No log that could be read tells of confirmations that were computed."]
