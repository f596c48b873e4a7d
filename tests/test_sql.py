"""The statements as a product: form, names, parameters, documented columns, and assertions that can fail."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import duckdb
import psycopg
import pytest
from conftest import database
from story import CAPTURED_AT, planted, story

from analysis import decode, query

HOUSE = Path(__file__).parent.parent
FILES = sorted(file for file in (HOUSE / "sql").glob("*/*.sql") if file.parent.name != "postgres")
NAMES = [f"{file.parent.name}/{file.stem}" for file in FILES]
CODE = "\n".join(file.read_text(encoding="utf-8") for file in (HOUSE / "analysis").glob("*.py"))
MATERIALISED = [
    *(f"decode/{name}" for name in decode.RELATIONS),
    *("reconstruct/allocation_versions", "replay/rivals", "replay/verdicts", "measure/lookups"),
]


class Statement(NamedTuple):
    """A file taken apart: the sentence, what stands behind Grain and Parameters, and the SQL."""

    sentence: str
    grain: str
    parameters: str
    body: str

    @classmethod
    def read(cls, name: str) -> "Statement":
        form = r"-- ([A-Z].*?\.)\n-- Grain: ([^\n]+)\.\n-- Parameters: ([^\n]+)\.\n([^-].*)"
        found = re.fullmatch(form, query.text(name), re.DOTALL)
        assert found, f"{name} does not begin with its sentence, Grain and Parameters"
        return cls(*found.groups())

    @property
    def bare(self) -> str:
        """The SQL without comments, texts and quoted names."""
        return re.sub(r"""--[^\n]*|'(?:[^']|'')*'|"[^"]*\"""", "''", self.body)


@pytest.fixture(scope="module")
def source(server: str) -> Iterator[psycopg.Connection]:
    """Both shapes of the system, empty: the audit table is the one in schema audit."""
    with database(server, "sql_source") as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        for name in ("schema", "migration_up"):
            with conn.transaction():
                conn.execute(query.text(f"postgres/{name}").encode())
        conn.execute("create schema audit; alter table booking_confirmation_results set schema audit")
        conn.execute("drop function app_restaurant_id cascade")
        with conn.transaction():
            conn.execute(query.text("postgres/idempotency").replace("add constraint allocations_no_overlap", "add").encode())
        yield conn


def test_there_are_statements_in_every_room() -> None:
    rooms = {name.partition("/")[0] for name in NAMES}
    assert rooms == {"capture", "store", "decode", "reconstruct", "replay", "measure", "assert"}


@pytest.mark.parametrize("name", NAMES)
class TestForm:
    def test_header_is_a_sentence_the_grain_and_the_parameters(self, name: str) -> None:
        assert all(line.startswith("-- ") for line in Statement.read(name).sentence.split("\n")[1:])

    def test_one_statement(self, name: str, source: psycopg.Connection) -> None:
        if name.startswith("capture/"):
            first = "audit" if name == "capture/checks" else "public"
            source.execute(f"set search_path = {first}, public".encode())
            assert source.execute(query.text(name).encode(), prepare=True).description
        else:
            assert len(duckdb.extract_statements(query.text(name))) == 1

    def test_parameters_are_those_of_the_header(self, name: str) -> None:
        """Names come first in the header, then perhaps what they are."""
        _, _, told, _ = statement = Statement.read(name)
        named = []
        for phrase in re.split(r"[,:]\s*", told):
            if not re.fullmatch(r"\w+", phrase):
                break
            named.append(phrase)
        assert sorted(set(re.findall(r"\$(\w+)", statement.bare))) == sorted(set(named) - {"none"})
        assert ("none" in named) == (named == ["none"])
        assert not re.search(r"%\(|\{\w*\}", statement.bare)

    def test_order_is_fixed(self, name: str) -> None:
        _, grain, _, body = Statement.read(name)
        # A view is ordered by whoever reads it.
        assert (
            grain == "one row"
            or name == "decode/snapshot_allocations"
            or re.search(r"^order by [^\n]+(\nlimit 1)?\n\Z", body, re.MULTILINE)
        )

    def test_keywords_are_lower_case(self, name: str) -> None:
        assert not re.search("[A-Z]", Statement.read(name).bare)

    def test_used(self, name: str) -> None:
        folder, _, stem = name.partition("/")
        whole, in_a_list = re.search(f"""["']{name}["']""", CODE), f'"{stem}"' in CODE and f'f"{folder}/{{' in CODE
        assert folder == "assert" or whole or in_a_list


def test_every_statement_that_is_named_exists() -> None:
    named = re.findall(r"""["']((?:capture|store|decode|reconstruct|replay|measure)/\w+)["']""", CODE)
    assert len(named) > 10
    assert set(named) <= set(NAMES)


class TestDocumentedRelations:
    """data/README.md has a section for each relation of a store: a table with a row for each column."""

    SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
    COLUMN = re.compile(r"^\| `(\w+)` \| ([^|]+?) \| ([^|]*\w[^|]*) \|$", re.MULTILINE)

    @pytest.fixture(scope="class")
    @classmethod
    def documented(cls) -> dict[str, list[tuple[str, ...]]]:
        page = (HOUSE / "data" / "README.md").read_text(encoding="utf-8")
        return {name: cls.COLUMN.findall(section) for name, section in cls.SECTION.findall(page)}

    def test_all_and_no_others(self, documented: dict[str, list[tuple[str, ...]]], evidence: duckdb.DuckDBPyConnection) -> None:
        listed = """
            select table_name from duckdb_tables() where not temporary
            union select view_name from duckdb_views() where not internal and not temporary"""
        held = {name for (name,) in evidence.execute(listed).fetchall()}
        assert documented.keys() == held
        assert held > {name.partition("/")[2] for name in MATERIALISED} - {"snapshot_items"}

    def test_columns_and_types(self, documented: dict[str, list[tuple[str, ...]]], evidence: duckdb.DuckDBPyConnection) -> None:
        for name, columns in documented.items():
            table = evidence.table(name)
            assert [column for column, _, _ in columns] == table.columns, name
            for (column, written, _), held in zip(columns, table.types, strict=True):
                same = evidence.execute(f"select typeof(null::{written})").fetchone() if written != "struct" else None
                assert same == (str(held),) or (written == "struct" and str(held).startswith("STRUCT")), f"{name}.{column}"


# An assertion → what is done to a sound store, for it to find something.
A1, A2 = story("a1 [0,10) firm · a2 [5,8) firm by:C · c1 [20,30)").held
SPOILT = {
    "one_verdict": [
        "delete from verdicts",
        "insert into verdicts from verdicts",
        "update verdicts set cause = null",
        "update verdicts set replayed_verdict = null",
        "delete from checks",
        "insert into checks from checks",
    ],
    "rivals_in_evidence": [
        "update rivals set allocation_id = 'nobody'",
        "update rivals set \"window\" = 'empty'",
        "update rivals set booking_id = 'somebody'",
        "update rivals set source = 'named by PostgreSQL'",
        "delete from snapshot_listing",
    ],
    "verdicts_follow_rivals": [
        "delete from rivals",
        "update rivals set source = 'later evidence'",
        "update verdicts set replayed_verdict = 'clear'",
    ],
    "rows_accounted_for": [
        "delete from checks",
        "delete from snapshot_listing",
        "delete from quarantine",
        "insert into quarantine select 'snapshot allocations', check_id, item_no, '', '' from snapshot_allocations",
        "delete from allocation_versions",
        "insert into snapshot_listing from snapshot_listing",
    ],
    "firm_overlaps": [
        "update raw_allocations set shadow = 'false'",
        "update raw_allocations set shadow = 'false'; insert into vanished values (1, 'allocations', 'a2')",
    ],
}
SOUND = [
    "update raw_allocations set shadow = 'false'; insert into vanished values (2, 'allocations', 'a2')",
    "update raw_allocations set shadow = 'false', resource_id = key",
]


@pytest.fixture(scope="module")
def sound() -> duckdb.DuckDBPyConnection:
    """A store with a conflict, a bad entry, and live allocations that would overlap, were one of them not a hold."""
    check = story("a1 [0,10) firm · c1 [5,8)")
    spoilt = replace(check, name="c3", more={"allocations": [*check.snapshot()["allocations"], {"id": "bad"}]})
    return planted(
        captures=[CAPTURED_AT, "2025-12-02 00:00:00+00"],
        checks=[check.row(), story("c2 [0,1)").row(), spoilt.row()],
        allocations=[A1.row(), A2.row(shadow="true"), A1.row(key="a3", window_text="soon")],
    )


@pytest.fixture
def store(sound: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The sound store, for one test to do damage in."""
    sound.begin()
    yield sound
    sound.rollback()


class TestAssertions:
    @pytest.mark.parametrize("name", SPOILT)
    def test_nothing_is_found_in_the_lab(self, name: str, evidence: duckdb.DuckDBPyConnection) -> None:
        assert query.rows(evidence, f"assert/{name}") == []

    @pytest.mark.parametrize("name", SPOILT)
    def test_nothing_is_found_in_a_sound_store(self, name: str, store: duckdb.DuckDBPyConnection) -> None:
        assert query.rows(store, f"assert/{name}") == []

    @pytest.mark.parametrize(("name", "damage"), [(name, damage) for name in SPOILT for damage in SPOILT[name]])
    def test_damage_is_found(self, name: str, damage: str, store: duckdb.DuckDBPyConnection) -> None:
        store.execute(damage)
        assert query.rows(store, f"assert/{name}")

    @pytest.mark.parametrize("change", SOUND)
    def test_what_is_gone_or_elsewhere_does_not_overlap(self, change: str, store: duckdb.DuckDBPyConnection) -> None:
        store.execute(change)
        assert query.rows(store, "assert/firm_overlaps") == []

    def test_every_assertion_is_tried(self) -> None:
        assert {name.partition("/")[2] for name in NAMES if name.startswith("assert/")} == SPOILT.keys()
