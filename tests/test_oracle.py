"""PostgreSQL as the oracle: the same questions put to a real constraint and to the replay.

The questions of a plain run, with what PostgreSQL answered when they were first asked, are recorded in data/oracle; each run
asks them again. ``make oracle`` asks many new ones. Run as a script, this file records anew.
"""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import psycopg
import pytest
from conftest import database
from psycopg.types.json import Jsonb
from story import Asked, Held, planted, window

import analysis
from analysis import constraint, explain, history, lab, replay
from analysis.model import Cause, Rule

RECORDED = Path(__file__).parent.parent / "data" / "oracle" / "decisions.parquet"
CASES = int(os.environ.get("FORENSICS_ORACLE_CASES", "0"))  # new ones for each form; none: those recorded
FORMS = constraint.RULES | {
    rule.name: rule
    for rule in (
        constraint.parse(
            "one_of_a_kind", 'EXCLUDE USING gist (resource_type WITH =, "window" WITH &&, restaurant_id WITH =) DEFERRABLE'
        ),
        constraint.parse("one_party", 'EXCLUDE USING gist (restaurant_id WITH =, "window" WITH &&) INITIALLY DEFERRED'),
        constraint.parse("shadow_apart", 'EXCLUDE USING gist (resource_id WITH =, shadow WITH =, "window" WITH &&)'),
        constraint.parse(
            "window_first", 'EXCLUDE USING gist ("window" WITH &&, resource_id WITH =) WHERE (NOT shadow) DEFERRABLE'
        ),
    )
}

# Every case has tables of its own, so that nothing needs to be taken away in between, unless the rule compares no tables. A
# row that the rule, or the unique key, does not let into the state is left out of the question. Where the rule is deferred,
# some of the rows held are moved away before it is asked what it says of what is left.
ORACLE = """
create table allocations (
  id text, booking_id text, restaurant_id text, resource_type text, resource_id text, "window" tstzrange, shadow boolean,
  unique (booking_id, resource_type, resource_id),
  constraint {name} {definition}
);
create index on allocations (id);
create function ask(cases jsonb) returns table (kept text[], state text, message text, detail text)
language plpgsql
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
declare
  one jsonb;
  held jsonb;
begin
  for one in select * from jsonb_array_elements(cases) loop
    kept := '{{}}'; state := null; message := null; detail := null;
    for held in select * from jsonb_array_elements(one -> 'held') loop
      begin
        {defer}
        insert into allocations select (jsonb_populate_record(null::allocations, held)).*;
        {judge}
        kept := kept || (held ->> 'id');
      exception when exclusion_violation or unique_violation then
        null;
      end;
    end loop;
    begin
      {defer}
      insert into allocations select (jsonb_populate_record(null::allocations, asked)).*
      from jsonb_array_elements(one -> 'asked') as asked
      on conflict (booking_id, resource_type, resource_id) do update
        set shadow = false, restaurant_id = excluded.restaurant_id, "window" = excluded."window";
      update allocations set "window" = 'empty' where id in (select jsonb_array_elements_text(one -> 'moved'));
      {judge}
    exception when exclusion_violation then
      get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail;
    end;
    {clean}
    return next;
  end loop;
end
$$
"""


class Answer(NamedTuple):
    kept: list[str]
    sqlstate: str | None
    message: str | None
    detail: str | None


def ask(server: str, rule: Rule, checks: list[Asked]) -> list[Answer]:
    """Attempt what the checks asked for, each over its own state, under the real constraint."""
    told = {
        "name": rule.name,
        "definition": rule.definition,
        "defer": f"set constraints {rule.name} deferred;" if rule.deferrable else "",
        "judge": f"set constraints {rule.name} immediate;" if rule.deferrable else "",
        "clean": "" if "resource_id" in rule.equality else "truncate allocations;",
    }
    with database(server, f"oracle_{rule.name}") as dsn, psycopg.connect(dsn) as conn:
        conn.execute("create extension if not exists btree_gist")
        conn.execute(ORACLE.format(**told).encode())
        answers = conn.execute("select * from ask(%s)", [Jsonb([question(check) for check in checks])])
        return [Answer(*row) for row in answers.fetchall()]


def question(check: Asked) -> dict[str, Any]:
    common = {
        "booking_id": check.booking_id,
        "restaurant_id": check.restaurant_id,
        "resource_type": "table",
        "window": window(check.window),
        "shadow": False,
    }
    return {
        "held": [held.item() for held in check.held],
        "asked": [{**common, "id": "asked", "resource_id": table} for table in check.tables],
        "moved": check.moved,
    }


def some_window(rng: random.Random) -> str:
    lower, upper = sorted(rng.choices(range(7), k=2))
    low = rng.choices([str(lower), "", "-inf"], [18, 1, 1])[0]
    high = rng.choices([str(upper), "", "inf"], [18, 1, 1])[0]
    window = f"{rng.choice('[[[(')}{low},{high}{rng.choice(')))]')}"
    return rng.choices([window, "empty", "[inf,)", "(,-inf]"], [90, 3, 1, 1])[0]


def some_check(rng: random.Random, deferrable: bool) -> Asked:
    held = tuple(
        Held(
            f"a{i}",
            rng.choices([some_window(rng), None], [30, 1])[0],
            shadow=rng.choices([False, True, None], [8, 2, 1])[0],
            booking_id=rng.choice(["B", "C", "D", None, None]),
            restaurant_id=rng.choices(["R", "S", None], [8, 2, 1])[0],
            resource_type=rng.choices(["table", "merge_group", None], [8, 1, 1])[0],
            resource_id=rng.choices(["T", "U", None], [6, 3, 1])[0],
        )
        for i in range(rng.randint(0, 5))
    )
    return Asked(
        "c",
        some_window(rng),
        held,
        moved=tuple(one.name for one in held if deferrable and rng.random() < 0.2 and one.window and one.booking_id != "B"),
        tables=rng.choice([("T",), ("T",), ("T", "U")]),
        booking_id=rng.choice(["B", "B", None]),
        restaurant_id=rng.choices(["R", None], [12, 1])[0],
    )


class Decisions(NamedTuple):
    """The same checks decided by PostgreSQL and, in a store, by the replay."""

    checks: dict[str, Asked]
    answers: dict[str, Answer]
    con: duckdb.DuckDBPyConnection


def some_checks(form: str, count: int) -> list[Asked]:
    rng = random.Random(f"oracle of {form}")
    return [named_apart(some_check(rng, FORMS[form].deferrable).apart(f"#{i}")) for i in range(count)]


def recorded(form: str) -> tuple[list[Asked], list[Answer]]:
    rows = pl.read_parquet(RECORDED).filter(form=form).to_dicts()
    checks = []
    for row in rows:
        told = json.loads(row["question"])
        checks.append(Asked(**told | {"held": tuple(Held(**held) for held in told["held"]), "tables": tuple(told["tables"])}))
    return checks, [Answer(row["kept"], row["sqlstate"], row["message"], row["detail"]) for row in rows]


@pytest.fixture(scope="module", params=FORMS)
def decisions(request: pytest.FixtureRequest, server: str) -> Iterator[Decisions]:
    form = request.param
    asked, known = (some_checks(form, CASES), None) if CASES else recorded(form)
    answers = ask(server, FORMS[form], asked)
    # Of several rivals PostgreSQL names any in the detail.
    assert known is None or [answer[:3] for answer in answers] == [answer[:3] for answer in known]
    checks = {
        check.name: replace(
            check, held=tuple(held for held in check.held if held.name in answer.kept), confirmed=answer.sqlstate is None
        )
        for check, answer in zip(asked, answers, strict=True)
    }
    # What a confirmed check's transaction moved shows in later evidence, with its instant; a refusal takes it back.
    moved = [
        held.row(window_text="empty", updated_at=check.checked_at.isoformat(" "))
        for check in checks.values()
        for held in check.held
        if check.confirmed and held.name in check.moved
    ]
    con = planted(checks=[check.row() for check in checks.values()], allocations=moved)
    with replay.under(con, FORMS[form]):
        yield Decisions(checks, dict(zip(checks, answers, strict=True)), con)


def named_apart(check: Asked) -> Asked:
    """Give the allocations of a check names of their own, as uuids are."""
    held = tuple(replace(held, name=f"{held.name}{check.name}") for held in check.held)
    return replace(check, held=held, moved=tuple(f"{name}{check.name}" for name in check.moved))


def test_replay_decides_as_postgresql_does(decisions: Decisions) -> None:
    replayed = dict(decisions.con.execute("select check_id, replayed_verdict from verdicts").fetchall())
    decided = {name: "conflict" if answer.sqlstate else "clear" for name, answer in decisions.answers.items()}
    assert not [(decisions.checks[name], said) for name, said in decided.items() if replayed[name] != said]
    for verdict in ("conflict", "clear"):
        assert sum(said == verdict for said in decided.values()) > 0.15 * len(decided)
    assert {answer.sqlstate for answer in decisions.answers.values()} == {"23P01", None}


def test_transient_overlaps_are_among_them(decisions: Decisions) -> None:
    [(found,)] = decisions.con.execute("select count(*) from verdicts where cause = 'transient_overlap'").fetchall()
    [(deferrable,)] = decisions.con.execute("select r.deferrable from rules as r").fetchall()
    assert found > 0.01 * len(decisions.checks) if deferrable else found == 0


def test_words_are_those_of_postgresql(decisions: Decisions) -> None:
    one_rival = decisions.con.execute(
        """
        select check_id from rivals inner join verdicts using (check_id) where replayed_verdict = 'conflict'
        group by check_id having count(*) = 1 order by check_id limit 40"""
    ).fetchall()
    assert len(one_rival) == 40
    for (name,) in one_rival:
        told = explain.evidence(replay.check(decisions.con, name))
        assert (told["message"], told["detail"]) == decisions.answers[name][2:]


class TestLab:
    """What PostgreSQL decided in the lab, against the replay of what was captured from it.

    Races, after the end of the history, are left out of the verdicts: a rival may commit after the snapshot was taken.
    """

    def count(self, evidence: duckdb.DuckDBPyConnection, recorded: str, replayed: str) -> int:
        [(found,)] = evidence.execute(
            f"""
            select count(*) from checks as c inner join verdicts as v using (check_id)
            where c.checked_at < $end and v.grade = 'complete' and ({recorded}) and v.replayed_verdict {replayed}""",
            {"end": history.Plan().end},
        ).fetchall()
        return int(found)

    def test_history_is_replayed_as_it_was_decided(self, evidence: duckdb.DuckDBPyConnection) -> None:
        refused = "c.sqlstate = '23P01' and c.constraint_name in (select rule from rules)"
        confirmed = "c.recorded_verdict = 'confirmed'"
        assert self.count(evidence, confirmed, "<> 'clear'") == 0
        assert self.count(evidence, refused, "<> 'conflict'") == 0
        assert self.count(evidence, confirmed, "= 'clear'") > 3_000
        assert self.count(evidence, refused, "= 'conflict'") > 100

    def test_every_check_of_the_history_that_reached_the_rule_has_a_complete_snapshot(
        self, evidence: duckdb.DuckDBPyConnection
    ) -> None:
        found = evidence.execute(
            """
            select c.check_id, c.sqlstate from checks as c inner join verdicts as v using (check_id)
            where c.checked_at < $end and v.grade <> 'complete'""",
            {"end": history.Plan().end},
        ).fetchall()
        assert [check for check, sqlstate in found if sqlstate in (None, "23P01")] == []

    def test_explanations_quote_what_postgresql_said(self, evidence: duckdb.DuckDBPyConnection) -> None:
        recorded = evidence.execute("""
            select c.check_id, c.message, c.detail from checks as c inner join verdicts as v using (check_id)
            where c.sqlstate = '23P01' and c.check_id in (select check_id from rivals)
            qualify row_number() over (partition by v.cause order by hash(c.check_id)) <= 40""").fetchall()
        assert len(recorded) == 80, "forty with the rival in the snapshot, forty without"
        for check_id, message, detail in recorded:
            told = analysis.explain_check(evidence, check_id).data
            assert (told["message"], told["detail"]) == (message, detail)
            # Every cited row exists.
            assert told["rivals"]


def test_rivals_cited_are_rows_of_the_source(evidence: duckdb.DuckDBPyConnection, lab_dsn: str) -> None:
    """The ledger of the lab saw every allocation that an explanation cites, with that window and that booking."""
    cited = evidence.execute("""
        select distinct allocation_id, booking_id, resource_id, "window" from rivals
        where allocation_id is not null order by all""").fetchall()
    with psycopg.connect(lab_dsn) as conn:
        conn.execute("set local timezone = 'UTC'")
        known = conn.execute("""
            select distinct new ->> 'id', new ->> 'booking_id', new ->> 'resource_id', (new ->> 'window')::tstzrange::text
            from lab.ledger where new is not null""").fetchall()
    assert len(cited) > 100
    assert set(cited) <= set(known)


class TestRaces:
    """In the races the ledger knows the truth: nothing is moved or deleted there, so that a key has one holder for ever."""

    CANNOT_TELL = (Cause.RIVAL_NOT_IN_EVIDENCE, Cause.REASON_NOT_RECORDED, Cause.EVIDENCE_MISSING, Cause.EVIDENCE_UNDECODABLE)

    @pytest.fixture(scope="class")
    @classmethod
    def holders(cls, lab_dsn: str) -> dict[tuple[str, ...], set[tuple[str, int]]]:
        """Who was ever firm on a key, by the ledger: restaurant, type, resource, window → allocation, transaction."""
        found: dict[tuple[str, ...], set[tuple[str, int]]] = {}
        with psycopg.connect(lab_dsn) as conn:
            conn.execute("set local timezone = 'UTC'")
            for *key, allocation, xid in conn.execute("""
                select new ->> 'restaurant_id', new ->> 'resource_type', new ->> 'resource_id',
                       (new ->> 'window')::tstzrange::text, new ->> 'id', xid::text::bigint
                from lab.ledger where not (new ->> 'shadow')::boolean"""):
                found.setdefault(tuple(key), set()).add((allocation, xid))
        return found

    @pytest.fixture
    def refused(self, evidence: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
        return (
            analysis.checks(evidence)
            .filter(pl.col("checked_at") >= history.Plan().end, recorded_verdict="refused")
            .join(evidence.table("named_rivals").pl(), on="check_id", how="left", suffix="_named")
            .join(evidence.table("checks").pl().select("check_id", "sqlstate"), on="check_id")
            .to_dicts()
        )

    def test_no_cause_is_wrong(
        self,
        refused: list[dict[str, Any]],
        holders: dict[tuple[str, ...], set[tuple[str, int]]],
        evidence: duckdb.DuckDBPyConnection,
        lab_dsn: str,
    ) -> None:
        with psycopg.connect(lab_dsn) as conn:
            written = "select id::text, xmin::text::bigint from booking_confirmation_results"
            transactions: dict[str, int] = dict(conn.execute(written).fetchall())
        for row in refused:
            assert (row["cause"] == Cause.DEADLOCK) == (row["sqlstate"] == "40P01")
            rivals = analysis.explain_check(evidence, row["check_id"]).data["rivals"]
            if row["sqlstate"] != "23P01":
                continue
            [(holder, xid)] = holders[row["restaurant_id_named"], row["resource_type"], row["resource_id"], row["window_text"]]
            assert xid != transactions[row["check_id"]], "the rival is another transaction's"
            # In the snapshot or not, the one that PostgreSQL named is told, by the evidence alone.
            sources = {rival["source"] for rival in rivals if rival["allocation_id"] == holder}
            meanwhile = row["cause"] == Cause.RIVAL_COMMITTED_MEANWHILE
            assert sources == ({"later evidence"} if meanwhile else {"snapshot"} if row["cause"] == Cause.AGREED else set())

    def test_few_cannot_be_told(self, refused: list[dict[str, Any]]) -> None:
        assert len(refused) > 100
        told = [row for row in refused if row["cause"] not in self.CANNOT_TELL]
        assert len(told) >= 0.95 * len(refused)


def record(count: int = 500) -> None:
    """Ask so many questions of each form of a fresh server and write them down with its answers and its version."""
    rows = []
    with lab.serve() as server:
        with psycopg.connect(server) as conn:
            version = conn.info.parameter_status("server_version")
        for form, rule in FORMS.items():
            checks = some_checks(form, count)
            for check, answer in zip(checks, ask(server, rule, checks), strict=True):
                question = {key: value for key, value in asdict(check).items() if key not in ("checked_at", "conflict", "more")}
                rows.append(
                    {
                        "form": form,
                        "definition": rule.definition,
                        "question": json.dumps(question),
                        **answer._asdict(),
                        "server_version": version,
                    }
                )
    RECORDED.parent.mkdir(exist_ok=True)
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(RECORDED, compression="zstd", compression_level=19)


if __name__ == "__main__":
    record()
