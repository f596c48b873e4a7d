"""PostgreSQL as the oracle: the same questions put to a real constraint and to the replay."""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import duckdb
import psycopg
import pytest
from conftest import database
from psycopg.types.json import Jsonb
from story import Asked, Held, planted, window

import analysis
from analysis import explain, lab, replay
from analysis.model import RULES, Rule

CASES = int(os.environ.get("FORENSICS_ORACLE_CASES", "1000"))  # for each rule; make oracle asks for more

# Every case has tables of its own, so that nothing needs to be taken away in between. A row that the rule, or the unique
# key, does not let into the state is left out of the question.
ORACLE = """
create table allocations (
  id text, booking_id text, restaurant_id text, resource_type text, resource_id text, "window" tstzrange, shadow boolean,
  unique (booking_id, resource_type, resource_id),
  constraint {name} {definition}
);
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
      {judge}
    exception when exclusion_violation then
      get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail;
    end;
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
    }
    with database(server, f"oracle_{rule.version}") as dsn, psycopg.connect(dsn) as conn:
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
    }


def some_window(rng: random.Random) -> str:
    lower, upper = sorted(rng.choices(range(7), k=2))
    low = rng.choices([str(lower), "", "-inf"], [18, 1, 1])[0]
    high = rng.choices([str(upper), "", "inf"], [18, 1, 1])[0]
    window = f"{rng.choice('[[[(')}{low},{high}{rng.choice(')))]')}"
    return rng.choices([window, "empty", "[inf,)", "(,-inf]"], [90, 3, 1, 1])[0]


def some_check(rng: random.Random) -> Asked:
    held = (
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
        tuple(held),
        tables=rng.choice([("T",), ("T",), ("T", "U")]),
        booking_id=rng.choice(["B", "B", None]),
        restaurant_id=rng.choices(["R", None], [12, 1])[0],
    )


class Decisions(NamedTuple):
    """The same checks decided by PostgreSQL and, in a store, by the replay."""

    checks: dict[str, Asked]
    answers: dict[str, Answer]
    con: duckdb.DuckDBPyConnection


@pytest.fixture(scope="module", params=RULES)
def decisions(request: pytest.FixtureRequest, server: str) -> Iterator[Decisions]:
    rng = random.Random(f"oracle of {request.param}")
    asked = [some_check(rng).apart(f"#{i}") for i in range(CASES)]
    answers = ask(server, RULES[request.param], asked)
    checks = {
        check.name: replace(check, held=tuple(held for held in check.held if held.name in answer.kept))
        for check, answer in zip(asked, answers, strict=True)
    }
    con = planted(checks=[check.row() for check in checks.values()])
    with replay.under(con, request.param):
        yield Decisions(checks, dict(zip(checks, answers, strict=True)), con)


def test_replay_decides_as_postgresql_does(decisions: Decisions) -> None:
    replayed = dict(decisions.con.execute("select check_id, replayed_verdict from verdicts").fetchall())
    decided = {name: "conflict" if answer.sqlstate else "clear" for name, answer in decisions.answers.items()}
    assert not [(decisions.checks[name], said) for name, said in decided.items() if replayed[name] != said]
    for verdict in ("conflict", "clear"):
        assert sum(said == verdict for said in decided.values()) > 0.2 * CASES
    assert {answer.sqlstate for answer in decisions.answers.values()} == {"23P01", None}


def test_words_are_those_of_postgresql(decisions: Decisions) -> None:
    one_rival = decisions.con.execute(
        "select check_id from rivals group by check_id having count(*) = 1 order by check_id limit 40"
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
            {"end": lab.Plan().end},
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
            {"end": lab.Plan().end},
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
