"""A rule read from PostgreSQL's own words, or from a person's: PostgreSQL says what each form is."""

from collections.abc import Iterator

import psycopg
import pytest
from conftest import database

from analysis import constraint, query
from analysis.model import RuleError

SCRATCH = """
create table scratch (
  restaurant_id uuid, resource_type text, resource_id uuid, "window" tstzrange, shadow boolean, is_maintenance boolean,
  created_by uuid, party int, place point
)"""


@pytest.fixture(scope="module")
def scratch(server: str) -> Iterator[psycopg.Connection]:
    with database(server, "model_rules") as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create extension btree_gist")
        conn.execute(SCRATCH)
        yield conn


def in_postgresql(conn: psycopg.Connection, constraint: str) -> str:
    """Create a constraint and return it in PostgreSQL's own words."""
    with conn.transaction(force_rollback=True):
        conn.execute(f"alter table scratch add constraint r {constraint}".encode())
        row = conn.execute("select pg_get_constraintdef(oid) from pg_constraint where conname = 'r'").fetchone()
    assert row is not None
    return str(row[0])


REFUSED = {
    "other operator on the range": 'exclude using gist (resource_id with =, "window" with -|-)',
    "other operator on a column": 'exclude using gist (resource_id with <>, "window" with &&)',
    "other column": 'exclude using gist (created_by with =, "window" with &&)',
    "no range": "exclude using gist (resource_id with =)",
    "range compared for equality": 'exclude using gist ("window" with =)',
    "other predicate": 'exclude using gist (resource_id with =, "window" with &&) where (not is_maintenance)',
    "predicate turned round": 'exclude using gist (resource_id with =, "window" with &&) where (shadow)',
    "shadow compared": 'exclude using gist (resource_id with =, "window" with &&) where (shadow = false)',
    "shadow is not true": 'exclude using gist (resource_id with =, "window" with &&) where (shadow is not true)',
    "more in the predicate": 'exclude using gist (resource_id with =, "window" with &&) where (not shadow and party > 2)',
    "function of a column": 'exclude using gist (lower(resource_type) with =, "window" with &&)',
    "function of the range": 'exclude using gist (tstzrange(lower("window"), upper("window"), \'[]\') with &&)',
    "operator class": 'exclude using gist (resource_id gist_uuid_ops with =, "window" range_ops with &&) include (party)',
    "included column": 'exclude using gist (resource_id with =, "window" with &&) include (party)',
    "collation": 'exclude using gist (resource_type collate "C" with =, "window" with &&)',
    "spgist": 'exclude using spgist ("window" with &&)',
    "unique": 'unique (resource_id, "window")',
    "check": "check (party > 0)",
}


WRITTEN = {
    "range first": 'exclude using gist ("window" with &&, resource_id with =)',
    "between": 'exclude using gist (resource_id with =, "window" with &&, restaurant_id with =)',
    "nothing compared": 'EXCLUDE USING GIST("window" WITH &&)',
    "over lines": 'exclude using gist (\n  resource_id with =,\n  "window" with &&\n) where (not shadow)\ndeferrable;\n',
    "initially deferred": 'exclude using gist (resource_id with =, "window" with &&) initially deferred',
    "said not to be": 'exclude using gist (resource_id with =, "window" with &&) not deferrable initially immediate',
    "more brackets": 'exclude using gist (resource_id with =, "window" with &&) where (((not (shadow))))',
    "shadow compared": 'exclude using gist (shadow with =, "window" with &&)',
}


@pytest.mark.parametrize("version", constraint.RULES)
def test_documented_forms_are_as_postgresql_prints_them(version: str, scratch: psycopg.Connection) -> None:
    assert in_postgresql(scratch, constraint.RULES[version].definition) == constraint.RULES[version].definition


def test_what_the_documented_forms_say() -> None:
    resource = ("resource_type", "resource_id")
    said = {
        rule.version: (rule.equality, rule.firm_only, rule.deferrable, rule.initially_deferred)
        for rule in constraint.RULES.values()
    }
    assert said == {
        "strict": (resource, False, True, True),
        "v11": (resource, True, False, False),
        "v12": (("restaurant_id", *resource), True, True, False),
        "rollback": (resource, True, True, True),
    }
    assert {rule.version for rule in constraint.RULES.values() if rule.valid_to == constraint.MIGRATED_AT} == {
        "strict",
        "v11",
    }
    assert {rule.version for rule in constraint.RULES.values() if rule.valid_from == constraint.MIGRATED_AT} == {"v12"}


def test_the_migrations_install_the_documented_forms(server: str) -> None:
    installed = []
    with database(server, "model_migrations") as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        for name in ("schema", "migration_up", "migration_rollback"):
            with conn.transaction():
                conn.execute(query.text(f"postgres/{name}").encode())
            installed.append({row[:2] for row in conn.execute(query.text("capture/rules").encode()).fetchall()})
    assert installed == [
        {(constraint.RULES[version].name, constraint.RULES[version].definition) for version in versions}
        for versions in (("strict", "v11"), ("v12",), ("rollback",))
    ]


@pytest.mark.parametrize("columns", [(), ("resource_id",), ("resource_id", "restaurant_id")])
def test_equality_in_the_order_of_the_constraint(columns: tuple[str, ...], scratch: psycopg.Connection) -> None:
    equal = "".join(f"{column} with =, " for column in columns)
    rule = constraint.parse("r", in_postgresql(scratch, f'exclude using gist ({equal}"window" with &&) where (not (shadow))'))
    assert (rule.equality, rule.firm_only, rule.deferrable) == (columns, True, False)
    assert rule.key_columns == ", ".join([*columns, '"window"'])


@pytest.mark.parametrize("form", WRITTEN)
def test_what_a_person_writes_is_read_as_postgresql_reads_it(form: str, scratch: psycopg.Connection) -> None:
    rule = constraint.parse("own", WRITTEN[form])
    assert (rule.name, rule.definition) == ("own", in_postgresql(scratch, WRITTEN[form].strip(" ;\n")))
    assert rule == constraint.parse("own", rule.definition)


def test_a_name_in_the_text_counts() -> None:
    text = f"alter table only public.allocations\n  add constraint tight {constraint.RULES['v11'].definition};"
    assert constraint.parse("file", text) == constraint.parse("tight", constraint.RULES["v11"].definition)


@pytest.mark.parametrize("form", REFUSED)
def test_other_forms_are_refused_by_name(form: str, scratch: psycopg.Connection) -> None:
    definition = in_postgresql(scratch, REFUSED[form])
    with pytest.raises(RuleError) as refused:
        constraint.parse("r17", definition)
    assert "r17" in str(refused.value)
    assert definition in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "EXCLUDE", constraint.RULES["v12"].definition + " NOT VALID", "-- " + constraint.RULES["v12"].definition]
)
def test_anything_more_or_less_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        constraint.parse("r", text)
