"""Case files: whole, checkable offline, safe to open, and anonymous where asked."""

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from story import CHECKED_AT, Asked, planted, story

import analysis
from analysis import case, cli
from analysis.model import ForensicsError, NotFoundError, StoreError

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
BOOKING, PLACE = "5f0c1a52-6d0e-4b9e-9a43-0d2f5a3c7b1e", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
SAMPLE = Path(__file__).parent.parent / "data" / "sample"


def write(con: duckdb.DuckDBPyConnection, check_id: str, **options: Any) -> str:
    return case.write(con, check_id, analysis.explain_check, analysis.derive, **options)


def verify(page: str) -> list[str]:
    return [f"{f['table']}: {f['problem']}" for f in case.verify(page, analysis.explain_check, analysis.derive)]


def resigned(page: str, change: Any) -> str:
    """Change what a file holds, and write the hash that belongs to it, as a forger would."""
    payload = case._payload(page)
    change(payload)
    payload["hash"] = case._hash(payload)
    held = json.dumps(payload).replace("<", "\\u003c")
    return case._PAYLOAD.sub(lambda _: f'<script type="application/json" id="case">{held}</script>', page)


@pytest.fixture(scope="module")
def sample() -> duckdb.DuckDBPyConnection:
    return analysis.open_store(SAMPLE)


@pytest.fixture(scope="module")
def page(sample: duckdb.DuckDBPyConnection) -> str:
    return write(sample, "3")


def test_a_file_for_every_cause_of_the_sample(sample: duckdb.DuckDBPyConnection) -> None:
    first = analysis.checks(sample).unique(["cause", "replayed_verdict", "grade"], keep="first", maintain_order=True)
    assert len(first) > 10
    for check_id in first["check_id"]:
        page = write(sample, check_id)
        assert verify(page) == []
        assert len(page.encode()) < 200_000


def test_a_rival_that_only_other_evidence_shows_comes_with_the_file() -> None:
    """Each explanation rests on a row of the captured tables; write() itself holds that the rows lead to it."""
    nobody_named = replace(story("c1 [5,8) refused"), conflict={"sqlstate": "23P01", "attempted": []})
    moved = story("a9 [0,10) firm by:C · c1 [5,8)")
    near = {"updated_at": CHECKED_AT.isoformat(" ")}
    for check, row, cause in (
        (nobody_named, moved.held[0].row(**near), "rival_perhaps_committed_meanwhile"),
        (moved, moved.held[0].row(window_text="empty", **near), "transient_overlap"),
    ):
        page = write(planted(checks=[check.row()], allocations=[row]), "c1")
        assert case._payload(page)["explanation"]["cause"] == cause
        assert verify(page) == []


def test_the_looks_that_a_story_names_come_with_the_file() -> None:
    nobody_named = replace(story("c1 [5,8) refused"), conflict={"sqlstate": "23P01", "attempted": []})
    rival = story("a9 [0,10) firm by:C · c1 [5,8)").held[0]
    rival = replace(rival, updated_at=CHECKED_AT.isoformat(" "))
    later = [Asked(f"c{n}", "[20,30)", booking_id=f"D{n}", checked_at=CHECKED_AT + timedelta(minutes=2)) for n in (2, 3, 4)]
    for held, cause in (((), "rival_not_in_evidence"), ((rival,), "rival_perhaps_committed_meanwhile")):
        rows = [nobody_named.row(), *(replace(check, held=held).row() for check in reversed(later))]
        page = write(planted(checks=rows), "c1")
        told = case._payload(page)["explanation"]
        assert told["cause"] == cause
        assert (told["rivals"][0]["first_seen"] if held else told["next_look"])["check_id"] == "c2"
        assert verify(page) == []


def test_it_shows_the_story_as_a_page_and_as_text(page: str, sample: duckdb.DuckDBPyConnection) -> None:
    told = analysis.explain_check(sample, "3")
    assert told._repr_html_() in page
    assert "Refused, and rightly so." in page
    assert case._payload(page)["explanation"] == told.data
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "nothing is loaded from elsewhere"


FORGED: dict[str, tuple[Callable[[str], str], str]] = {
    "a byte of the rows": (
        lambda page: page.replace('"2025-11-13', '"2025-11-14', 1),
        "payload: the rows or the explanation were changed after the file was written",
    ),
    "the verdict, signed again": (
        lambda page: resigned(page, lambda payload: payload["explanation"].update(replayed_verdict="clear")),
        "explanation: it does not follow from the rows",
    ),
    "a row, signed again": (
        lambda page: resigned(page, lambda payload: payload["tables"]["raw_tables"]["rows"].clear()),
        "explanation: it does not follow from the rows",
    ),
    "the words on the page": (
        lambda page: page.replace("Refused, and rightly so.", "Refused wrongly."),
        "page: it shows something else than what it holds",
    ),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_file_is_found_out(forgery: str, page: str) -> None:
    change, finding = FORGED[forgery]
    assert change(page) != page
    assert verify(change(page)) == [finding]


def test_another_version_of_the_kit_may_tell_it_in_other_words(page: str) -> None:
    other = resigned(page, lambda payload: payload.update(kit="booking-forensics 0.0"))
    [finding] = verify(other.replace("Refused, and rightly so.", "Rightly refused."))
    assert finding.startswith("page: written by booking-forensics 0.0, here is booking-forensics ")
    assert finding.endswith(": its rows lead to the same verdict, cause and rivals; what it shows was not compared")
    wrong = resigned(other, lambda payload: payload["explanation"].update(cause="deadlock"))
    assert "its rows lead to another explanation" in verify(wrong)[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html></html>",
        '<script type="application/json" id="case">[1]</script>',
        '<script type="application/json" id="case">{oops</script>',
    ],
)
def test_what_is_no_case_file(text: str) -> None:
    with pytest.raises(StoreError, match="this is no case file"):
        verify(text)


def test_a_file_cannot_bring_statements_with_it(page: str) -> None:
    def smuggle(payload: dict[str, Any]) -> None:
        payload["tables"]["raw_rules"]["columns"][0][1] = "integer); drop table raw_checks; --"

    assert "names columns of raw_rules that no store has" in verify(resigned(page, smuggle))[0]


def test_hostile_text_stays_text() -> None:
    hostile = "</script><script>alert(1)</script>"
    check = replace(story(f"a1 [0,10) firm by:C · {hostile.replace(' ', '')} [5,8) refused"), booking_id=hostile)
    page = write(planted(checks=[check.row(key="c1")]), "c1")
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 1
    assert verify(page) == []


def test_no_such_check(sample: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(NotFoundError, match="no check 999999"):
        write(sample, "999999")


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.update(tables=[]),
        lambda payload: payload["tables"].pop("raw_rules"),
        lambda payload: payload["tables"]["raw_checks"]["rows"][0].pop(),
        lambda payload: payload["tables"]["raw_checks"]["columns"].append(["more", "BLOB"]),
        lambda payload: payload["tables"]["captures"]["rows"][0].__setitem__(1, "yesterday"),
        lambda payload: payload.update(check_id=None),
    ],
)
def test_rows_of_no_store_are_a_finding_and_no_traceback(change: Any, page: str) -> None:
    [finding] = verify(resigned(page, change))
    assert finding.startswith("payload: its rows are not those of a store: ")


class TestPseudonyms:
    def test_no_id_and_no_name_is_left_and_the_story_is_the_same(self, sample: duckdb.DuckDBPyConnection, page: str) -> None:
        other = write(sample, "3", pseudonymize=True)
        assert verify(other) == []
        assert set(UUID.findall(page)) & set(UUID.findall(other)) == set()
        assert "Chez Mireille" in page
        assert "Chez Mireille" not in other
        before, after = case._payload(page)["explanation"], case._payload(other)["explanation"]
        for key in ("check_id", "checked_at", "replayed_verdict", "cause", "grade", "message"):
            assert after[key] == before[key]
        assert [r["overlap_s"] for r in after["rivals"]] == [r["overlap_s"] for r in before["rivals"]]
        assert len(set(UUID.findall(json.dumps(after)))) == len(set(UUID.findall(json.dumps(before))))

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (['Joe\'s "Fish"'], 'at Joe\'s "Fish"'),
            (["Zo\xe9 & Co"], "at Zo\xe9 & Co"),
            (["Zanzibar", "Zanzibar 12 Baker Street"], "at Zanzibar 12 Baker Street"),
            (["Anchor"], "nothing of it"),
        ],
        ids=["quotes", "letters", "a longer name", "a word of markup"],
    )
    def test_a_name_is_replaced_however_it_is_written(self, names: list[str], said: str) -> None:
        check = replace(story("c1 [5,8) refused"), booking_id=BOOKING, restaurant_id=PLACE)
        check = replace(check, conflict={"sqlstate": "P0001", "message": said, "attempted": []})
        places = [{"key": PLACE, "name": name, "timezone": "UTC", "capture_id": n} for n, name in enumerate(names, 1)]
        captures = [f"2025-12-0{n} 00:00:00+00" for n, _ in enumerate(names, 1)]
        page = write(planted(captures=captures, checks=[check.row(key="c1")], restaurants=places), "c1", pseudonymize=True)
        assert verify(page) == []
        told = json.dumps(case._payload(page)["tables"], ensure_ascii=False) + html.unescape(page)
        assert not [word for word in (*names, "Baker", "Fish", "Zo\xe9") if word in told and word != "Anchor"]

    @pytest.mark.parametrize("said", ["at ZO\xc9", "at Zoe\u0301"], ids=["capitals", "decomposed"])
    def test_a_name_in_another_spelling_is_not_written(self, said: str) -> None:
        check = replace(story("c1 [5,8) refused"), booking_id=BOOKING, restaurant_id=PLACE)
        check = replace(check, conflict={"sqlstate": "P0001", "message": said, "attempted": []})
        place = {"key": PLACE, "name": "Zo\xe9", "timezone": "UTC"}
        with pytest.raises(ForensicsError, match="stand in texts where they cannot be replaced"):
            write(planted(checks=[check.row(key="c1")], restaurants=[place]), "c1", pseudonymize=True)

    @pytest.mark.parametrize("name", ["e", "2025", "overlap"])
    def test_a_name_that_the_rows_need_as_a_word_is_not_replaced(self, name: str) -> None:
        check = replace(story("a1 [0,10) firm · c1 [5,8) refused"), booking_id=BOOKING, restaurant_id=PLACE)
        place = {"key": PLACE, "name": name, "timezone": "UTC"}
        with pytest.raises(ForensicsError, match="name is a word that the rows need for something else"):
            write(planted(checks=[check.row(key="c1")], restaurants=[place]), "c1", pseudonymize=True)

    def test_ids_and_names_in_free_text_are_replaced_or_the_file_is_not_written(self) -> None:
        one, two = BOOKING, PLACE
        said = f"booking_{one} \n{one.upper()} at Chez Nous; {one.replace('-', '')}"
        check = replace(story("c1 [5,8) refused"), booking_id=one, restaurant_id=two)
        check = replace(check, conflict={"sqlstate": "P0001", "message": said, "attempted": []})
        place = {"key": two, "name": "Chez Nous", "timezone": "UTC"}
        page = write(planted(checks=[check.row(key="c1")], restaurants=[place]), "c1", pseudonymize=True)
        assert not re.search(f"{one}|{one.replace('-', '')}|{two}|chez nous", page, re.I)
        assert verify(page) == []
        hidden = replace(check, conflict={"sqlstate": "P0001", "message": f"f{one}", "attempted": []})
        with pytest.raises(ForensicsError, match="1 ids or names of this check stand in texts where they cannot be replaced"):
            write(planted(checks=[hidden.row(key="c1")], restaurants=[place]), "c1", pseudonymize=True)

    def test_two_files_cannot_be_joined(self, sample: duckdb.DuckDBPyConnection) -> None:
        one, two = (write(sample, "3", pseudonymize=True) for _ in range(2))
        assert set(UUID.findall(one)) & set(UUID.findall(two)) == set()

    def test_other_ids_than_uuids_are_refused(self) -> None:
        con = planted(checks=[story("c1 [5,8)").row()])
        with pytest.raises(ForensicsError, match=r"raw_checks.booking_id holds 'B': only ids that are uuids can be replaced"):
            write(con, "c1", pseudonymize=True)


class TestCommand:
    def run(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(map(str, arguments)))
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    def test_write_and_verify(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "case.html"
        status, told, _ = self.run(capsys, "case", "3", "--store", SAMPLE, "--out", file)
        assert (status, told.startswith(f"{file}: check 3, ")) == (0, True)
        assert self.run(capsys, "verify", file)[:2] == (
            0,
            "The explanation follows from the rows in the file, and the page shows it.\n",
        )
        file.write_text(file.read_text().replace("rightly", "wrongly"))
        status, told, _ = self.run(capsys, "verify", file, "--json")
        assert (status, json.loads(told)["ok"]) == (1, False)

    def test_wrong_use(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments, said in (
            (["verify"], "verify takes a store (--store FILE) or a case file"),
            (["verify", tmp_path / "none.html"], "cannot read"),
            (["case", "3", "--store", SAMPLE, "--out", tmp_path / "no" / "such"], "cannot write"),
        ):
            status, told, error = self.run(capsys, *arguments)
            assert (status, told) == (2, "")
            assert said in error
