"""The command line as a user meets it: exit codes, one clear line on bad input, one JSON object, no surprises in a pipe."""

import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from conftest import database
from psycopg.conninfo import make_conninfo

import analysis
from analysis import capture, cli, lab, query, source

SECRET = "hunter2secret"
FORENSICS = [sys.executable, "-m", "analysis"]
NOWHERE = f"postgresql://u:{SECRET}@127.0.0.1:1/x"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
Run = subprocess.CompletedProcess[str]


def forensics(*arguments: str | Path) -> Run:
    """Run the program in this process, which saves the second that a new one takes to start."""
    words, out, err = [str(argument) for argument in arguments], StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert isinstance(ended.value.code, int)
    return Run(words, ended.value.code, out.getvalue(), err.getvalue())


def program(*arguments: str | Path, **environment: str) -> Run:
    """Run the program as a user does, in a process of its own."""
    command = [*FORENSICS, *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def answer(*arguments: str | Path) -> str:
    """Return what a command that succeeds prints."""
    run = forensics(*arguments)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def data(*arguments: str | Path) -> Any:
    """Return the one JSON object that a command prints."""
    printed = answer(*arguments, "--json")
    assert printed.count("\n") == 1
    return json.loads(printed, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def refusal(*arguments: str | Path) -> str:
    """Return the one line with which a command is refused, without a traceback, a word on stdout, or the password."""
    run = forensics(*arguments)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert run.stderr.startswith("forensics")
    assert SECRET not in run.stderr
    return run.stderr


def check_id(store: Path, where: str) -> str:
    with closing(analysis.open_store(store)) as con:
        rows = con.execute(f"select min(check_id) from verdicts join checks using (check_id) where {where}").fetchall()
    return str(rows[0][0])


@pytest.fixture
def empty(server: str, tmp_path: Path) -> Path:
    """Return a store captured from a system in which nothing ever happened."""
    with database(server, "forensics_empty") as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for name in ("schema", "migration_up", "reader"):
                conn.execute(query.text(f"postgres/{name}"))
        capture.pull(lab.reader_dsn(dsn), tmp_path / "empty.duckdb", analysis.derive)
    return tmp_path / "empty.duckdb"


# Wrong usage.

BAD_USAGE: dict[str, tuple[list[str], str]] = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "unknown command": (["expalin"], "invalid choice: 'expalin'"),
    "no store": (["checks"], "the following arguments are required: --store"),
    "no check": (["explain", "--store", "{store}"], "required: CHECK_ID"),
    "stray word": (["checks", "--store", "{store}", "x"], "unrecognized arguments: x"),
    "no DSN": (["capture", "--store", "{store}"], "required: DSN"),
    "unknown check": (["explain", "0", "--store", "{store}"], "no check 0 in the store: it holds "),
    "no number": (["explain", "x\ny", "--store", "{store}"], "no check x y in the store: it holds "),
    "not a time": (["state", "--restaurant", "x", "--at", "noon", "--store", "{store}"], "'noon' is no instant"),
    "no offset": (["state", "--restaurant", "x", "--at", "2025-11-15T18:00", "--store", "{store}"], "has no offset"),
    "before time": (["state", "--restaurant", "x", "--at", "0001-01-01T00:00+14:00", "--store", "{store}"], "is no instant"),
    "unknown restaurant": (
        ["state", "--restaurant", "x", "--at", "2025-11-15T18:00Z", "--store", "{store}"],
        "no restaurant x in the store",
    ),
    "unknown rule": (
        ["replay", "--rule", "v99", "--store", "{store}"],
        "no rule v99: expected one of strict, v11, v12, rollback",
    ),
    "empty rule": (["replay", "--rule", "", "--store", "{store}"], "no rule : expected one of strict, v11, v12, rollback"),
    "case over the store": (["case", "1", "--store", "{store}", "--out", "{store}"], "exists already, and is left as it is"),
    "negative days": (["retention", "--days", "-1", "--store", "{store}"], "from 0 to 100000"),
    "endless days": (["retention", "--days", "99999999999999999999", "--store", "{store}"], "from 0 to 100000"),
    "no days": (["retention", "--days", "many", "--store", "{store}"], "invalid int value: 'many'"),
    "negative TTL": (["cache", "--ttl", "60", "--ttl", "-1", "--store", "{store}"], "a TTL is a number of seconds from 0 up"),
    "no TTL": (["cache", "--ttl", "nan", "--store", "{store}"], "a TTL is a number of seconds from 0 up"),
    "endless TTL": (["cache", "--ttl", "inf", "--store", "{store}"], "a TTL is a number of seconds from 0 up"),
}


@pytest.mark.parametrize(("arguments", "told"), BAD_USAGE.values(), ids=BAD_USAGE)
def test_wrong_usage_is_one_clear_line(lab_store: Path, arguments: list[str], told: str) -> None:
    assert told in refusal(*(argument.replace("{store}", str(lab_store)) for argument in arguments))


READING = {
    "checks": [],
    "explain": ["1"],
    "state": ["--restaurant", "x", "--at", "2025-11-15T18:00Z"],
    "replay": [],
    "cache": [],
    "retention": ["--days", "30"],
}


def a_folder(path: Path) -> None:
    path.mkdir()


def a_text(path: Path) -> None:
    path.write_text("dear diary\n" * 999)


def a_broken_parquet(path: Path) -> None:
    path.mkdir()
    (path / "captures.parquet").write_text("x")


def another_database(path: Path) -> None:
    duckdb.connect(str(path)).close()


BAD_STORES: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (lambda path: None, "no store at {}: make one with forensics capture DSN --store {}"),
    "folder": (a_folder, "{} holds no capture"),
    "text": (a_text, "{} is not a DuckDB file: give the store that forensics capture wrote"),
    "empty file": (Path.touch, "{} is not a DuckDB file"),
    "broken Parquet": (a_broken_parquet, "captures.parquet cannot be read as Parquet"),
    "another database": (another_database, "{} holds no capture"),
}


@pytest.mark.parametrize(("make", "told"), BAD_STORES.values(), ids=BAD_STORES)
def test_what_is_no_store_is_one_clear_line(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    store = tmp_path / "a store"
    make(store)
    assert told.format(store, store) in refusal("checks", "--store", store)


@pytest.mark.parametrize("command", READING)
def test_every_reading_command_says_which_store_is_missing(command: str) -> None:
    assert "no store at nowhere" in refusal(command, *READING[command], "--store", "nowhere")


@pytest.mark.parametrize(
    ("dsn", "told"),
    {
        "no DSN": (SECRET, "the DSN cannot be read"),
        "unreachable": (NOWHERE, "Connection refused"),
        "@ in the password": (f"postgresql://u:x@{SECRET}@127.0.0.1:1/x", "must be written as %40"),
    }.values(),
)
def test_a_source_that_cannot_be_read_is_one_clear_line(tmp_path: Path, dsn: str, told: str) -> None:
    assert told in refusal("capture", dsn, "--store", tmp_path / "x.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_something_else_is_one_clear_line(server: str, tmp_path: Path) -> None:
    assert "is this the booking database?" in refusal("capture", server, "--store", tmp_path / "x.duckdb")
    assert list(tmp_path.iterdir()) == []


# Answers.


def test_help_names_every_command() -> None:
    printed = answer("--help")
    assert all(command in printed for command in (*READING, "lab", "capture"))
    for command in (*READING, "lab", "capture"):
        assert answer(command, "--help").startswith(f"usage: forensics {command}")


def test_an_empty_store_answers_sensibly(empty: Path) -> None:
    assert answer("checks", "--store", empty) == "none\n"
    assert data("checks", "--store", empty) == {"checks": [], "quarantined": 0}
    assert "the store holds no checks at all" in refusal("explain", "1", "--store", empty)
    assert "recorded confirmed                      0" in answer("replay", "--store", empty)
    assert data("replay", "--store", empty) == {"rule": None, "checks": 0, "matrix": [], "changed": [], "pairs": []}
    assert data("replay", "--rule", "v11", "--store", empty)["changed"] == []
    assert answer("cache", "--store", empty) == "No checks in this store: there is no hit rate to give.\n"
    assert data("cache", "--store", empty)["hit_rate"] is None
    nothing = "No checks in this store: there is nothing to keep or to free.\n"
    assert answer("retention", "--days", "30", "--store", empty) == nothing
    assert data("retention", "--days", "30", "--store", empty)["rows_kept"] == 0
    assert "no restaurant x" in refusal("state", "--restaurant", "x", "--at", "2025-11-15T18:00Z", "--store", empty)


CONTRACT = {
    "checks": "checks quarantined",
    "checks.checks": "check_id booking_id restaurant_id checked_at recorded_verdict replayed_verdict cause grade",
    "explain": "check_id booking_id restaurant_id checked_at recorded_verdict replayed_verdict cause grade rule message detail "
    "request rivals alternatives cannot_see",
    "explain.rivals": "allocation_id booking_id kind resource_type resource_id window overlap overlap_s source",
    "explain.alternatives": "resource_id window shift_s seats",
    "state": "restaurant_id at grade allocations",
    "state.allocations": "allocation_id booking_id resource_type resource_id window shadow presence since until source",
    "replay": "rule checks matrix changed",
    "replay.matrix": "recorded_verdict replayed_verdict cause checks",
    "cache": "lookups hits hit_rate observed by_day ttl_curve",
    "cache.ttl_curve": "policy ttl_s lookups hits stale_hits hits_low hits_high",
    "cache.ttl_curve_by_booking": "policy ttl_s lookups hits stale_hits hits_low hits_high",
    "cache.by_day": "day lookups hits hit_rate hit_rate_low hit_rate_high",
    "retention": "days as_of rows_kept rows_freed bytes_kept bytes_freed hits_lost explanations_lost purged_before_meal",
    "retention.variants": "variant rows_kept rows_freed bytes_freed hits_lost explanations_lost purged_before_meal",
}


@pytest.mark.parametrize("command", READING)
def test_json_keeps_the_contract(lab_store: Path, command: str) -> None:
    conflict = check_id(lab_store, "cause = 'agreed' and replayed_verdict = 'conflict'")
    with closing(analysis.open_store(lab_store)) as con:
        [(restaurant,)] = con.execute("select restaurant_id from checks where check_id = $id", {"id": conflict}).fetchall()
    arguments = {"explain": [conflict], "state": ["--restaurant", restaurant, "--at", "2025-11-20T18:00:00+01:00"]}
    told = data(command, *arguments.get(command, READING[command]), "--store", lab_store)
    for place, keys in CONTRACT.items():
        at, _, inside = place.partition(".")
        if at == command:
            rows = told[inside] if inside else [told]
            assert rows, place
            for row in rows:
                assert set(keys.split()) <= row.keys()
    for instant in instants(told):
        assert INSTANT.fullmatch(instant), instant
    if command == "state":
        assert told["at"] == "2025-11-20T17:00:00Z"
    if command == "checks":
        assert {row["recorded_verdict"] for row in told["checks"]} == {"confirmed", "refused"}
        assert {row["replayed_verdict"] for row in told["checks"]} <= {"clear", "conflict", "unknown"}


def instants(told: Any) -> Iterator[str]:
    """Yield what the object says under the names of instants."""
    if isinstance(told, dict):
        for name, value in told.items():
            if isinstance(value, str) and (name.endswith("_at") or name in ("at", "since", "until")):
                yield value
            yield from instants(value)
    elif isinstance(told, list):
        for value in told:
            yield from instants(value)


def test_checks_can_be_narrowed(lab_store: Path) -> None:
    every = data("checks", "--store", lab_store)["checks"]
    conflicts = data("checks", "--conflicts", "--store", lab_store)["checks"]
    disagreements = data("checks", "--disagreements", "--store", lab_store)["checks"]
    assert [c for c in every if c["replayed_verdict"] == "conflict" or c["cause"] == "rival_committed_meanwhile"] == conflicts
    assert [c for c in every if c["cause"] != "agreed"] == disagreements
    assert 0 < len(disagreements) < len(every)
    assert data("checks", "--quarantine", "--store", lab_store) == {"quarantine": []}


def test_the_points_of_the_curve_can_be_chosen(lab_store: Path) -> None:
    told = data("cache", "--ttl", "90", "--ttl", "0.5", "--store", lab_store)["ttl_curve"]
    assert [(point["policy"], point["ttl_s"]) for point in told] == [
        ("last_write", 0.5),
        ("last_write", 90),
        ("last_use", 0.5),
        ("last_use", 90),
    ]


def test_cache_and_retention_tell_what_they_print_as_json(lab_store: Path) -> None:
    figures, told = data("cache", "--ttl", "90", "--store", lab_store), answer("cache", "--ttl", "90", "--store", lab_store)
    unique = figures["uniqueness"]
    assert told.startswith(f"{figures['hits']:,} of {figures['lookups']:,} lookups ({100 * figures['hit_rate']:.1f} %)")
    assert f"one that knew when its answer no longer held, {figures['clairvoyant']:,}." in told
    assert re.search(rf"^last_use +90 +{figures['ttl_curve'][1]['hits']} ", told, re.MULTILINE)
    assert f"the newest would overwrite {unique['rows_overwritten']:,}" in told
    week = ("retention", "--days", "7", "--store", lab_store)
    figures, told = data(*week), answer(*week)
    assert f"{figures['rows_freed']:,} of {figures['rows_kept'] + figures['rows_freed']:,} rows go" in told
    assert f"{figures['explanations_lost']:,} explanations go with them, {figures['refusals_lost']:,} of refusals" in told
    purged = f"{figures['purged_before_meal']:,} of {figures['meals']:,} checks for a known meal"
    assert f"{purged} would have gone before it" in told
    for row in figures["variants"]:
        assert re.search(rf"^{row['variant']} +{row['rows_freed']} +{row['bytes_freed']} ", told, re.MULTILINE)


def test_replay_under_another_rule_lists_what_changes(lab_store: Path) -> None:
    told = data("replay", "--rule", "strict", "--store", lab_store)
    assert (told["rule"], told["checks"]) == ("strict", sum(row["checks"] for row in told["matrix"]))
    assert told["changed"]
    listed = answer("replay", "--rule", "strict", "--verbose", "--store", lab_store)
    assert f"Under strict instead: {len(told['changed']):,} checks would come out otherwise" in listed
    assert all(re.search(rf"^{check} ", listed, re.MULTILINE) for check in told["changed"])
    assert data("replay", "--store", lab_store)["changed"] == []


def test_capture_says_what_it_read_and_found_missing(lab_dsn: str, tmp_path: Path) -> None:
    store = tmp_path / "evidence.duckdb"
    dsn = make_conninfo(lab.reader_dsn(lab_dsn), password=SECRET)
    first, second = answer("capture", dsn, "--store", store), data("capture", dsn, "--store", store)
    assert re.match(
        r"Read [\d,]+ checks, [\d,]+ allocations, [\d,]+ archived, 55 tables, 6 restaurants \(audit shape\) in [\d.]+ s\n",
        first,
    )
    assert "as forensics_reader on PostgreSQL" in first
    assert {row["rows_new"] + row["rows_changed"] + row["rows_vanished"] for row in second["relations"]} == {0}
    assert (second["capture_id"], second["quarantined"]) == (2, 0)
    assert SECRET not in first + json.dumps(second)
    assert SECRET.encode() not in store.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.duckdb"]


def test_capture_says_what_became_of_the_rule(server: str, tmp_path: Path) -> None:
    store = tmp_path / "evidence.duckdb"

    def told(*changes: str) -> list[str]:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for change in changes:
                conn.execute(change.encode())
        words = answer("capture", lab.reader_dsn(dsn), "--store", store)
        return [line for line in words.splitlines() if line.startswith(("Rule", "No exclusion"))]

    drop = "alter table allocations drop constraint allocations_no_overlap"
    form = 'exclude using gist (resource_id with =, "window" with &&)'
    add = f"alter table allocations add constraint allocations_no_overlap {form}"
    with database(server, "forensics_rules") as dsn:
        first = told(*(query.text(f"postgres/{name}") for name in ("schema", "migration_up", "reader")))
        assert first == ["Rule allocations_no_overlap read for the first time"]
        assert told() == ["Rule allocations_no_overlap unchanged since capture 1"]
        assert told(drop, add) == ["Rule allocations_no_overlap changed"]
        assert told() == ["Rule allocations_no_overlap unchanged since capture 3"]
        assert told(drop) == ["Rule allocations_no_overlap is gone from the source"]
        assert told() == ["No exclusion constraint on allocations: nothing there forbids an overlap"]
        assert told(add) == ["Rule allocations_no_overlap changed"]


# Surroundings.


def test_the_exit_status_is_that_of_the_process(lab_store: Path, tmp_path: Path) -> None:
    for arguments, status in (
        (["replay", "--store", lab_store], 0),
        (["explain", "0", "--store", lab_store], 2),
        (["replay"], 2),
        (["capture", NOWHERE, "--store", tmp_path / "x.duckdb"], 2),
    ):
        run, inside = program(*arguments), forensics(*arguments)
        assert (run.returncode, run.stdout, run.stderr) == (status, inside.stdout, inside.stderr)


def test_answers_depend_on_no_zone_and_no_locale(lab_store: Path) -> None:
    conflict = check_id(lab_store, "cause = 'agreed' and replayed_verdict = 'conflict'")
    for command in (["checks"], ["cache", "--json"], ["explain", conflict]):
        arguments = [*command, "--store", str(lab_store)]
        here = program(*arguments, TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
        there = program(*arguments, TZ="Asia/Tokyo", LC_ALL="C", COLUMNS="40", PYTHONHASHSEED="2")
        assert (here.returncode, here.stdout) == (0, there.stdout)
        assert here.stdout


@pytest.mark.parametrize("command", ["checks", "checks --json"])
def test_a_reader_that_goes_away_is_no_error(lab_store: Path, command: str) -> None:
    piped = f"{' '.join(FORENSICS)} {command} --store '{lab_store}' | head -c 10; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert run.stdout[10:] == "0\n"


def test_a_full_device_is_one_clear_line(lab_store: Path, tmp_path: Path) -> None:
    command = [*FORENSICS, "checks", "--store", str(lab_store)]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (2, "forensics: the answer cannot be written: No space left on device\n")
    out = tmp_path / "case.html"
    run = subprocess.run(
        [*FORENSICS, "case", check_id(lab_store, "true"), "--store", lab_store, "--out", out],
        # No file may grow beyond so many bytes.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (2, f"forensics: cannot write {out}: File too large\n")
    assert not out.exists()


def test_a_name_that_no_file_can_have_is_one_clear_line() -> None:
    name = "n" * 300
    assert refusal("checks", "--store", name) == f"forensics: {name}: File name too long\n"


def test_a_damaged_store_is_one_clear_line(lab_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copy(lab_store, tmp_path))
    with duckdb.connect(str(store)) as con:
        con.execute("alter table verdicts drop column cause")
    assert refusal("checks", "--store", store).startswith(
        "forensics: the store cannot be read, which forensics verify tells more of: Binder Error: "
    )
    assert forensics("verify", "--store", store).returncode == 1


def on_a_terminal(*arguments: str | Path) -> tuple[int, str]:
    """Run a command with a terminal for stderr; return its exit status and what the terminal was sent."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [*FORENSICS, *map(str, arguments)], stderr=theirs, stdout=subprocess.DEVNULL, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    sent = b""
    with suppress(OSError):  # how Linux says that the other side is closed
        while part := os.read(ours, 4096):
            sent += part
    os.close(ours)
    return process.wait(), sent.decode()


def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(lab_dsn: str, tmp_path: Path) -> None:
    status, sent = on_a_terminal("capture", lab.reader_dsn(lab_dsn), "--store", tmp_path / "x.duckdb")
    assert status == 0
    assert {f"{relation}:" for relation in source.READ["audit"]} <= set(re.split(r"\s", sent)), sent
    assert "100%" in sent
    piped = program("capture", lab.reader_dsn(lab_dsn), "--store", tmp_path / "y.duckdb")
    assert (piped.returncode, piped.stderr) == (0, "")


def test_the_console_script_is_the_same_program(lab_store: Path) -> None:
    script = shutil.which("forensics", path=str(Path(sys.executable).parent))
    assert script
    run = subprocess.run([script, "replay", "--store", lab_store], capture_output=True, text=True, check=True)
    assert run.stdout == answer("replay", "--store", lab_store)


def test_an_error_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["checks", "--store", str(tmp_path / "\x1b[31m\u202eno store")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}no store" in told
    assert told.rstrip("\n").isprintable()
