"""The idempotency shape, from a real PostgreSQL to the story: what it can tell, what it cannot, and what it never claims."""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import ANCHOR

import analysis
from analysis import capture, case, cli, lab, measure, query, reconstruct, stores

NEW_YORK = "America/New_York"
MEAL = '["2025-12-20 18:00:00+00","2025-12-20 19:30:00+00")'


def uuid(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def table(number: int) -> str:
    return uuid(1, number)


def booking(number: int) -> str:
    return uuid(2, number)


def hold(number: int) -> str:
    return uuid(3, number)


class House:
    """The application beside the database: holds tables, confirms, and unassigns, each in a transaction of its own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        with psycopg.connect(dsn) as conn:
            for number in range(1, 5):
                conn.execute(
                    "insert into table_inventory (id, restaurant_id, table_number, capacity, min_party_size, max_party_size) "
                    "values (%s, %s, %s, 4, 1, 4)",
                    [table(number), ANCHOR, f"T{number}"],
                )

    def run(self, statement: str, *values: Any, zone: str = "UTC") -> None:
        with psycopg.connect(self.dsn) as conn:
            conn.execute("select set_config('timezone', %s, false)", [zone])
            conn.execute(statement.encode(), values or None)

    def hold(self, number: int, *tables: int, meal: str = MEAL, minutes: int = 10) -> None:
        """Hold tables for a new booking of this number; its shadow rows mirror the hold."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute(
                'insert into bookings (id, restaurant_id, party_size, "window") values (%s, %s, 2, %s) on conflict do nothing',
                [booking(number), ANCHOR, meal],
            )
            conn.execute(
                'insert into table_holds (id, booking_id, restaurant_id, "window", policy_version, expires_at) '
                "values (%s, %s, %s, %s, 1, now() + %s * interval '1 minute')",
                [hold(number), booking(number), ANCHOR, meal, minutes],
            )
            for each in tables:
                conn.execute("insert into table_hold_members values (%s, %s)", [hold(number), table(each)])
                conn.execute(
                    'insert into allocations (booking_id, resource_type, resource_id, shadow, restaurant_id, "window") '
                    "values (%s, 'table', %s, true, %s, %s) on conflict (booking_id, resource_type, resource_id) do nothing",
                    [booking(number), table(each), ANCHOR, meal],
                )

    def confirm(self, number: int, zone: str = "UTC", key: str = "k") -> None:
        self.run("select confirm_hold_assignment_tx(%s, %s, %s)", hold(number), booking(number), key, zone=zone)

    def book(self, number: int, *tables: int, meal: str = MEAL, zone: str = "UTC") -> str:
        """Hold and confirm; return the id of the check."""
        self.hold(number, *tables, meal=meal)
        self.confirm(number, zone)
        return f"{booking(number)}/k"


@pytest.fixture
def house(idempotency: str) -> House:
    return House(idempotency)


def pull(house: House, store: Path) -> dict[str, Any]:
    return capture.pull(lab.reader_dsn(house.dsn), store, analysis.derive)


def ask(store: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(analysis.open_store(store)) as con:
        rows: list[tuple[Any, ...]] = con.sql(statement).pl().rows()
        return rows


def explained(store: Path, check_id: str) -> analysis.Explanation:
    with closing(analysis.open_store(store)) as con:
        return analysis.explain_check(con, check_id)


def test_a_success_is_a_check_that_is_clear_as_far_as_the_evidence_reaches(house: House, store: Path) -> None:
    check_id = house.book(1, 1, 2)
    manifest = pull(house, store)
    assert (manifest["shape"], manifest["missing"], manifest["lacking"], manifest["empty"]) == ("idempotency", {}, [], None)
    told = explained(store, check_id)
    said = ("recorded_verdict", "replayed_verdict", "cause", "grade", "rule")
    assert tuple(told.data[key] for key in said) == ("confirmed", "clear", "agreed", "partial", "allocations_no_overlap")
    assert [each["resource_id"] for each in told.data["request"]["resources"]] == [table(1), table(2)]
    assert (told.data["request"]["window"], told.data["request"]["hold_id"]) == (MEAL, hold(1))
    assert "Confirmed; nothing that this evidence can show stood in the way." in str(told)
    assert "Cannot be seen: refusals: they roll back" in str(told)
    assert told._repr_html_()


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), (NEW_YORK, 5), ("Asia/Kolkata", -5.5), ("Asia/Kathmandu", -5.75)])
def test_the_offset_of_the_session_is_taken_out_of_the_instant(house: House, store: Path, zone: str, hours: float) -> None:
    check_id = house.book(1, 1, zone=zone)
    pull(house, store)
    with psycopg.connect(house.dsn) as conn:
        [at] = conn.execute("select extract(epoch from created_at) from capacity_outbox").fetchone() or ()
    [(skew_s, checked_at, recorded_at)] = ask(store, "select skew_s, epoch(checked_at), epoch(recorded_at) from checks")
    # The lab's New York is on winter time in November, when this was written; in summer it is an hour less.
    assert abs(skew_s / 3600 - hours) in (0, 1 if zone == NEW_YORK else 0)
    assert checked_at == pytest.approx(float(at), abs=1e-5)
    assert recorded_at - checked_at == skew_s
    noted = [note for note in explained(store, check_id).data["notes"] if note.startswith("created_at says")]
    assert len(noted) == (hours != 0)
    assert all("ahead of what" in note if hours > 0 else "behind what" in note for note in noted)


def test_without_anything_written_beside_it_an_instant_is_left_and_doubted(house: House, store: Path) -> None:
    check_id = house.book(1, 1, zone=NEW_YORK)
    house.run("drop table capacity_outbox; drop table audit_logs; update allocations set updated_at = now()")
    manifest = pull(house, store)
    assert manifest["missing"] == {"capacity_outbox": "no table capacity_outbox", "audit_logs": "no table audit_logs"}
    assert ask(store, "select skew_s, checked_at = recorded_at from checks") == [(None, True)]
    told = explained(store, check_id).data["cannot_see"]
    assert "whether the recorded instant is right: nothing else was written with it, and its default may be off" in told
    assert "what audit_logs would tell: the source has none that could be read" in told
    assert ask(store, "select relation from capture_relations where rows_read is null order by all") == [
        ("audit_logs",),
        ("capacity_outbox",),
    ]


def test_a_row_that_is_overwritten_is_another_version_and_one_that_cascades_away_stays(house: House, store: Path) -> None:
    check_id = house.book(1, 1)
    pull(house, store)
    house.run("delete from allocations")
    house.hold(1, 2)
    house.confirm(1)
    changed = {row["relation"]: row["rows_changed"] for row in pull(house, store)["relations"]}
    assert changed["confirmations"] == 1
    assert explained(store, check_id).data["request"]["resources"][0]["resource_id"] == table(2)
    house.run("delete from bookings")
    gone = {row["relation"]: row["rows_vanished"] for row in pull(house, store)["relations"]}
    assert (gone["confirmations"], gone["capacity_outbox"]) == (1, 0)
    assert explained(store, check_id).data["recorded_verdict"] == "confirmed"
    with closing(analysis.open_store(store)) as con:
        assert analysis.verify(con) == []


def test_what_a_refusal_leaves_behind_is_shown_beside_the_one_who_had_the_table(house: House, store: Path) -> None:
    check_id = house.book(1, 1)
    house.hold(2, 1, 3)
    with pytest.raises(psycopg.errors.RaiseException) as refused:
        house.confirm(2)
    assert refused.value.diag.message_primary == "allocations_no_overlap"
    house.hold(3, 4)
    house.run("update table_holds set expires_at = now() where booking_id = %s", booking(2))
    pull(house, store)
    left = ask(store, "select kind, booking_id, resource_id from leftovers order by all")
    assert left == [
        ("hold", booking(2), None),
        ("shadow row", booking(2), table(1)),
        ("shadow row", booking(2), table(3)),
    ]
    notes = explained(store, check_id).data["notes"]
    assert [note.split(" for ")[0].split()[-1] for note in notes] == [booking(2)] * 2
    assert ask(store, "select count(*) from checks") == [(1,)]


def test_the_logs_tell_who_held_a_table_before_and_when_it_was_given_back(house: House, store: Path) -> None:
    house.book(1, 1)
    house.run("select unassign_tables(%s)", booking(1))
    check_id = house.book(2, 1)
    pull(house, store)
    told = explained(store, check_id).data
    assert (told["replayed_verdict"], told["rivals"]) == ("clear", [])
    with closing(analysis.open_store(store)) as con:
        [(assigned_at, unassigned_at)] = (
            con.table("logged").filter(f"booking_id = '{booking(1)}'").aggregate("min(logged_at), max(logged_at)").pl().rows()
        )
        [held] = reconstruct.state(con, ANCHOR, assigned_at)["allocations"]
        assert (held["booking_id"], held["presence"], held["until"]) == (booking(1), "certain", unassigned_at)
        after = reconstruct.state(con, ANCHOR, unassigned_at)["allocations"]
    assert booking(1) not in {each["booking_id"] for each in after}


def test_a_row_that_nobody_saw_go_makes_no_conflict(house: House, store: Path) -> None:
    house.book(1, 1)
    house.run("delete from audit_logs")
    pull(house, store)
    house.run("delete from allocations")
    check_id = house.book(2, 1)
    pull(house, store)
    told = explained(store, check_id)
    said = ("replayed_verdict", "cause", "grade")
    assert tuple(told.data[key] for key in said) == ("unknown", "evidence_missing", "partial")
    [rival] = told.data["rivals"]
    assert (rival["booking_id"], rival["source"]) == (booking(1), "perhaps gone")
    assert "PostgreSQL accepted C, so it must have gone by then, although no evidence shows that." in str(told)


def test_by_a_clock_that_may_be_wrong_nobody_must_have_gone(house: House, store: Path) -> None:
    """Nothing was written beside the check, and its instant is hours after the capture that read it."""
    check_id = house.book(1, 1, zone=NEW_YORK)
    house.run("drop table capacity_outbox; drop table audit_logs; delete from allocations")
    house.hold(2, 1)
    house.run("update allocations set shadow = false")
    pull(house, store)
    told = explained(store, check_id)
    assert [rival["source"] for rival in told.data["rivals"]] == ["perhaps gone"]
    assert "PostgreSQL accepted C: it had gone by then, or it came later and the recorded instant is off." in str(told)
    assert "when it was checked: the recorded instant is later than the capture that read it, and so is off" in str(told)


def test_a_row_that_stood_all_the_time_is_an_alarm(house: House, store: Path) -> None:
    house.book(1, 1)
    pull(house, store)
    house.run("alter table allocations drop constraint allocations_no_overlap")
    check_id = house.book(2, 1)
    pull(house, store)
    told = explained(store, check_id)
    assert (told.data["cause"], told.data["grade"]) == ("confirmed_over_conflict", "partial")
    [rival] = told.data["rivals"]
    assert (rival["booking_id"], rival["source"], rival["overlap_s"]) == (booking(1), "reconstructed", 5400)
    assert told.data["to_clear"] is None
    with closing(analysis.open_store(store)) as con:
        assert query.rows(con, "assert/rivals_in_evidence") == query.rows(con, "assert/verdicts_follow_rivals") == []


BOOK = """insert into allocations (booking_id, resource_type, resource_id, shadow, restaurant_id, "window")
    values (%s, 'table', %s, false, %s, %s)"""


def held(store: Path, at: datetime) -> list[tuple[str, str, str]]:
    """Return who held which table at an instant, and how sure that is."""
    with closing(analysis.open_store(store)) as con:
        rows = reconstruct.state(con, ANCHOR, at)["allocations"]
    return sorted((row["booking_id"], row["resource_id"], row["presence"]) for row in rows)


def test_what_was_seen_later_was_not_gone(house: House, store: Path) -> None:
    """Unassigned and assigned anew in one transaction: both bear the instant of its start."""
    house.book(1, 1)
    with psycopg.connect(house.dsn) as conn:
        conn.execute("select unassign_tables(%s)", [booking(1)])
        conn.execute(BOOK, [booking(1), table(1), ANCHOR, MEAL])
    pull(house, store)
    [(made, seen)] = ask(
        store, "select updated_at, last_seen_at from allocation_versions where list_contains(sources, 'allocations')"
    )
    assert held(store, made) == held(store, seen) == [(booking(1), table(1), "certain")]


def test_what_a_log_gave_is_certain_only_until_it_was_given(house: House, store: Path) -> None:
    """The row of booking 1 goes and no log says so: that it was given another table later does not show that it stood."""
    house.book(1, 1)
    house.run("delete from allocations")
    house.book(2, 1)
    house.run("update booking_confirmation_results set hold_id = %s where booking_id = %s", hold(9), booking(1))
    house.hold(1, 2)
    house.confirm(1, key="k2")
    pull(house, store)
    [(at,)] = ask(store, f"select checked_at from checks where booking_id = '{booking(2)}'")
    assert held(store, at + timedelta(microseconds=1)) == [
        (booking(1), table(1), "possible"),
        (booking(2), table(1), "certain"),
    ]
    with closing(analysis.open_store(store)) as con:
        assert not len(analysis.pairs_under(con, "v12"))


def test_a_rule_that_compares_no_restaurants_is_not_broken_by_what_only_a_log_tells(house: House, store: Path) -> None:
    house.book(1, 1)
    bell = uuid(4, 1)
    house.run("insert into restaurants values (%s, 'The Bell', 'Europe/London')", bell)
    house.run("update capacity_outbox set restaurant_id = %s", bell)
    house.run("delete from allocations; delete from audit_logs")
    house.book(2, 1)
    house.run(
        "insert into audit_logs (action, entity, entity_id, metadata) values ('unassigned', 'booking', %s, '{}')", booking(1)
    )
    pull(house, store)
    with closing(analysis.open_store(store)) as con:
        assert con.execute("select restaurant_id from allocation_versions where sources = ['log']").fetchall() == [(bell,)]
        assert not len(analysis.changed_under(con, "v11"))


def test_an_event_without_an_id_is_one_event_however_often_its_status_changes(house: House, store: Path) -> None:
    house.run("alter table capacity_outbox drop column id")
    house.book(1, 1)
    pull(house, store)
    for status in ("sent", "done"):
        house.run("update capacity_outbox set status = %s", status)
        pull(house, store)
    with closing(analysis.open_store(store)) as con:
        assert measure.cache(con)["unseen"] == {"recorded": 1, "logged": 1, "computed_again": 0}
    # A place that another row takes is another event; the first is not forgotten.
    house.run("delete from capacity_outbox")
    with psycopg.connect(house.dsn, autocommit=True) as conn:
        conn.execute("vacuum capacity_outbox")
    house.book(2, 2)
    pull(house, store)
    confirmed = ask(store, "select booking_id from logged where event = 'confirmed' order by all")
    assert confirmed == [(booking(1),), (booking(2),)]


def test_another_act_about_an_hour_earlier_is_no_clock(house: House, store: Path) -> None:
    house.book(1, 1)
    house.run("update booking_confirmation_results set hold_id = %s where booking_id = %s", hold(9), booking(1))
    house.hold(1, 2)
    house.confirm(1, key="k2")
    shifted = "created_at - interval '1 hour' - interval '0.25 s'"
    first = "idempotency_key = 'k'"
    house.run(f"update booking_confirmation_results set created_at = {shifted} where {first}")
    house.run(f"update capacity_outbox set created_at = {shifted} where {first}")
    house.run(f"update audit_logs set created_at = {shifted} where id = (select min(id) from audit_logs)")
    pull(house, store)
    assert ask(store, "select distinct skew_s from checks") == [(0,)]


def test_a_hold_that_was_confirmed_is_not_left_over(house: House, store: Path) -> None:
    house.book(1, 1)
    house.run(
        """insert into table_holds (id, booking_id, restaurant_id, "window", policy_version, expires_at, status)
        values (%s, %s, %s, %s, 1, now() - interval '1 hour', 'live')""",
        hold(1),
        booking(1),
        ANCHOR,
        MEAL,
    )
    house.hold(2, 2)
    # Nor one that only a log calls confirmed, nor one of which nobody knows how long it lives, or what had a hold where no
    # hold can be read.
    for change in (
        "select",
        "update booking_confirmation_results set hold_id = gen_random_uuid()",
        "alter table table_holds drop column expires_at cascade",
        "drop table table_holds cascade",
    ):
        house.run(change)
        pull(house, store)
        assert ask(store, "from leftovers") == [], change


def test_uuids_in_logs_are_compared_whatever_their_spelling(house: House, store: Path) -> None:
    house.book(10, 1)
    house.run("update audit_logs set entity_id = upper(entity_id), metadata = upper(metadata::text)::jsonb")
    house.run("update audit_logs set metadata = jsonb_build_object('tableIds', metadata -> 'TABLEIDS')")
    pull(house, store)
    assert ask(store, "select distinct booking_id, table_id from logged") == [(booking(10), table(1))]


def test_a_row_that_says_no_change_is_held_from_its_first_sighting(house: House, store: Path) -> None:
    house.book(1, 1)
    house.run("alter table allocations alter updated_at drop not null; alter table allocations disable trigger all")
    house.run("delete from audit_logs; delete from capacity_outbox; update allocations set updated_at = null")
    pull(house, store)
    [(made, seen)] = ask(store, "select created_at, first_seen_at from allocation_versions")
    assert held(store, seen) == [(booking(1), table(1), "certain")]
    assert held(store, made) == [(booking(1), table(1), "possible")]


def test_every_question_has_an_answer_and_nothing_is_lost(
    house: House, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_id = house.book(1, 1)
    house.book(2, 2, zone=NEW_YORK)
    pull(house, store)
    for name in ("one_verdict", "rivals_in_evidence", "rows_accounted_for", "verdicts_follow_rivals", "firm_overlaps"):
        with closing(analysis.open_store(store)) as con:
            assert query.rows(con, f"assert/{name}") == []
            assert con.execute("select count(*) from lookups").fetchall() == [(2,)]
    for command in (
        ["checks"],
        ["explain", check_id],
        ["state", "--restaurant", ANCHOR, "--at", "2025-12-01T00:00:00Z"],
        ["replay", "--rule", "strict"],
        ["cache"],
        ["retention", "--days", "30"],
        ["verify", "--dsn", lab.reader_dsn(house.dsn)],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--store", str(store)])
        assert ended.value.code == 0, capsys.readouterr()
    with closing(analysis.open_store(store)) as con:
        stores.export(con, tmp_path / "folder")
        before = con.execute("from verdicts order by all").fetchall()
    with closing(analysis.open_store(tmp_path / "folder")) as con:
        assert con.execute("from verdicts order by all").fetchall() == before


@pytest.mark.parametrize("pseudonymize", [False, True])
def test_a_case_file_leads_to_the_same_explanation(house: House, store: Path, pseudonymize: bool) -> None:
    house.book(1, 1)
    house.run("select unassign_tables(%s)", booking(1))
    check_id = house.book(2, 1, zone=NEW_YORK)
    house.book(3, 2)
    house.hold(4, 1, minutes=0)
    pull(house, store)
    with closing(analysis.open_store(store)) as con:
        page = case.write(con, check_id, analysis.explain_check, analysis.derive, pseudonymize=pseudonymize)
    assert case.verify(page, analysis.explain_check, analysis.derive) == []
    assert (booking(2) in page) is not pseudonymize


def test_the_summary_of_a_capture_says_what_is_not_there_and_what_is_left_over(
    house: House, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house.hold(1, 1, minutes=0)
    house.run("drop table observability_events; revoke select on audit_logs from forensics_reader")
    house.run("alter table restaurants drop column timezone; drop table allocations_archive cascade")
    house.run("alter table capacity_outbox drop column status")
    with pytest.raises(SystemExit):
        cli.main(["capture", lab.reader_dsn(house.dsn), "--store", str(store)])
    told = capsys.readouterr().out
    assert "Read 0 confirmations, 1 allocation, 4 tables, 1 restaurant, 0 outbox events, 0 ledger entries" in told
    assert "(idempotency shape)" in told
    assert "No checks to read: the table public.booking_confirmation_results is empty, nothing is hidden from this role" in told
    assert (
        "Not there to read: no table allocations_archive; role forensics_reader may not select from audit_logs; "
        "no table observability_events\n" in told
    )
    assert "No such column, read as null: restaurants.timezone, capacity_outbox.status" in told
    assert "never confirmed, refused or given up: 1 hold, 1 shadow row\n" in told
    # What comes later is read by the next capture, and what is taken away is no proof that its rows are gone.
    house.run("grant select on audit_logs to forensics_reader; drop table table_holds cascade")
    manifest = pull(house, store)
    assert set(manifest["missing"]) == {"allocations_archive", "observability_events", "table_holds"}
    assert ask(store, "select count(*) from vanished") == [(0,)]
    with closing(analysis.open_store(store)) as con:
        assert analysis.verify(con) == []


def test_no_hit_rate_is_claimed_and_what_was_computed_is_counted(
    house: House, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second confirmation under one key is computed again, and overwrites; one under a key of its own is another row."""
    house.book(1, 1)
    house.hold(1, 1)
    house.confirm(1)
    house.book(2, 2)
    capture.pull(house.dsn, store, analysis.derive)
    with closing(analysis.open_store(store)) as con:
        figures = measure.cache(con)
        [(logged, again)] = con.execute(
            "select count(distinct key), count(distinct key) - count(distinct booking_id) from logged where event = 'confirmed'"
        ).fetchall()
    assert (figures["lookups"], figures["hits"], figures["hit_rate"], figures["best_ttl"]) == (0, 0, None, None)
    assert figures["unseen"] == {"recorded": 2, "logged": logged, "computed_again": again}
    assert again == 1
    with pytest.raises(SystemExit) as stop:
        cli.main(["cache", "--store", str(store)])
    assert stop.value.code == 0
    assert "no hit rate follows" in capsys.readouterr().out
