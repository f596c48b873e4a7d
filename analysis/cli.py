"""The command line ``forensics``: arguments in, one answer out, as text or as one JSON object.

Exit status: 0 done, 1 verify found something, 2 wrong usage or unusable input, with one clear line on stderr.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

import duckdb
import polars as pl
from tqdm import tqdm

import analysis
from analysis import case, constraint, custody, phrases, query, reconstruct, replay, report, stores
from analysis.model import DamagedError, ForensicsError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    args = _parser().parse_args(arguments)
    try:
        status = args.run(args)
        sys.stdout.flush()
    except ForensicsError as error:
        sys.exit(_fail(str(error)))
    except duckdb.Error as error:
        sys.exit(_fail(f"the store cannot be read, which forensics verify tells more of: {custody.first_line(error)}"))
    except BrokenPipeError:
        # The reader of our output went away (| head): not an error of ours.
        _drop_output()
        status = None
    except OSError as error:
        if error.filename is None:
            _drop_output()
        sys.exit(_fail(f"{error.filename or 'the answer cannot be written'}: {error.strerror}"))
    sys.exit(status or 0)


def _drop_output() -> None:
    """Let what is still to be written go: Python would try again when it ends, and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> int:
    print(f"forensics: {phrases.printable(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="forensics", description="Why was this booking refused, by whom, and was that right?")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="start a real PostgreSQL with the documented system and a workload")
    lab.set_defaults(run=_lab)

    pull = commands.add_parser("capture", help="read the evidence of a PostgreSQL database into a store")
    pull.add_argument("dsn", metavar="DSN", help="postgresql://user@host/database; the role forensics_reader is enough")
    pull.add_argument("--store", type=Path, required=True, metavar="FILE", help="DuckDB file, made where missing")
    pull.add_argument("--tenant", metavar="ID", help="read what row-level security shows this restaurant, and say so")
    pull.add_argument("--json", action="store_true", help="print one JSON object")
    pull.set_defaults(run=_capture)

    checks = _reading(commands, "checks", _checks, "list checks with both verdicts and the cause")
    checks.add_argument("--booking", metavar="ID", help="only those of this booking")
    checks.add_argument("--conflicts", action="store_true", help="only those with a rival")
    checks.add_argument("--disagreements", action="store_true", help="only those where recorded and replayed differ")
    checks.add_argument("--quarantine", action="store_true", help="list what could not be decoded instead")

    explain = _reading(commands, "explain", _explain, "one check, told: verdicts, rivals, why, what would have fitted")
    explain.add_argument("check_id", metavar="CHECK_ID")

    state = _reading(
        commands,
        "state",
        _state,
        "the allocations that existed at an instant, whatever meal they are for, and how sure that is",
    )
    state.add_argument("--restaurant", required=True, metavar="ID")
    state.add_argument("--at", required=True, type=_instant, metavar="TIME", help="like 2025-11-15T18:00:00Z")

    again = _reading(commands, "replay", _replay, "the recorded × replayed matrix by cause")
    again.add_argument(
        "--rule",
        metavar="NAME|FILE",
        help=f"replay under this rule instead: {', '.join(constraint.RULES)}, or a file with a definition",
    )
    again.add_argument("--verbose", action="store_true", help="list the checks and the pairs that come out otherwise")

    cache = _reading(commands, "cache", _cache, "what a cache of verdicts would have answered")
    cache.add_argument("--ttl", type=float, action="append", metavar="SECONDS", help="a point of the curve; repeatable")

    retention = _reading(commands, "retention", _retention, "what keeping the evidence for N days frees and loses")
    retention.add_argument("--days", type=int, required=True, metavar="N")

    one = _reading(commands, "case", _case, "write one check as a file for a ticket: its rows, its explanation, a hash")
    one.add_argument("check_id", metavar="CHECK_ID")
    one.add_argument("--out", type=Path, required=True, metavar="FILE", help="a page that any browser shows")
    one.add_argument("--pseudonymize", action="store_true", help="replace every id by another, each always by the same")

    check = commands.add_parser("verify", help="the store against its own manifest, and against the source; or a case file")
    check.add_argument(
        "case", nargs="?", type=Path, metavar="CASE", help="a file that forensics case wrote, instead of a store"
    )
    check.add_argument("--store", type=Path, metavar="FILE", help="what forensics capture wrote")
    check.add_argument("--dsn", metavar="DSN", help="compare with this source, too: what is new, late, changed or vanished")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_verify)
    return parser


def _reading(commands: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text)
    parser.add_argument("--store", type=Path, required=True, metavar="FILE", help="what forensics capture wrote")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _lab(args: argparse.Namespace) -> None:
    from analysis import lab  # needs the optional embedded PostgreSQL

    # Without a handler of its own the signal would end us at once, and leave the server and its files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with lab.serve() as dsn:
        print("Living through two months of bookings, then racing for tables: about half a minute", file=sys.stderr, flush=True)
        with tqdm(bar_format="{desc} ({elapsed})", disable=None, leave=False) as bar:
            lab.build(dsn, progress=bar.set_description_str)
        print(lab.reader_dsn(dsn), flush=True)
        print("Ctrl-C stops the server and removes its data.", file=sys.stderr, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _capture(args: argparse.Namespace) -> None:
    from analysis import capture  # its clients take half a second that no reading command needs

    begun = monotonic()
    manifest = capture.pull(args.dsn, args.store, analysis.derive, args.tenant)
    manifest["seconds"] = round(monotonic() - begun, 1)
    with closing(analysis.open_store(args.store)) as con:
        reasons = query.rows(con, "decode/quarantine_reasons")
        manifest["rules"] = query.rows(con, "store/rules_now", capture_id=manifest["capture_id"])
        left = con.execute("select kind, count(*) from leftovers group by kind order by kind").fetchall()
    manifest["leftovers"] = dict(left)
    manifest["quarantined"] = sum(row["rows"] for row in reasons)
    if args.json:
        _print_json(manifest)
        return
    _tell([*report.captured(manifest, reasons), f"Capture {manifest['capture_id']} is in {args.store}"])


def _checks(args: argparse.Namespace) -> None:
    with closing(analysis.open_store(args.store)) as con:
        if args.quarantine:
            _answer(args, {"quarantine": con.table("quarantine").pl().to_dicts()}, con.table("quarantine").pl())
            return
        listed = analysis.checks(con, args.booking, conflicts=args.conflicts, disagreements=args.disagreements)
        [extent] = query.rows(con, "replay/extent")
    _answer(args, {"checks": listed.to_dicts(), "quarantined": extent["quarantined"]}, listed)


def _explain(args: argparse.Namespace) -> None:
    with closing(analysis.open_store(args.store)) as con:
        told = analysis.explain_check(con, args.check_id)
    if args.json:
        _print_json(told.data)
    else:
        print(told)


def _state(args: argparse.Namespace) -> None:
    with closing(analysis.open_store(args.store)) as con:
        found = reconstruct.state(con, args.restaurant, args.at)
    if args.json:
        _print_json(found)
        return
    print(f"{len(found['allocations']):,} allocations at {found['at']:%Y-%m-%d %H:%M:%S}Z, evidence {found['grade']}")
    if found["allocations"]:
        print(report.table(pl.DataFrame(found["allocations"], infer_schema_length=None)))


def _replay(args: argparse.Namespace) -> None:
    rule = None if args.rule is None else replay.named(args.rule)
    with closing(analysis.open_store(args.store)) as con:
        with replay.under(con, rule) if rule else nullcontext():
            matrix = analysis.matrix(con)
            changed = query.frame(con, "replay/changed") if rule else None
        pairs = replay.pairs(con, rule).filter(pl.col("refused") != pl.col("refused_in_force")) if rule else None
        [extent] = query.rows(con, "replay/extent")
        in_force = con.execute(
            "select distinct unnest(string_split(rule, ', ')) as rule from verdicts order by rule"
        ).fetchall()
    if args.json:
        _print_json(
            {
                "rule": args.rule or ", ".join(name for (name,) in in_force) or None,
                "checks": extent["checks"],
                "matrix": matrix.to_dicts(),
                "changed": [] if changed is None else changed["check_id"].to_list(),
                "pairs": [] if pairs is None else pairs.to_dicts(),
            }
        )
        return
    under = None if changed is None or pairs is None else (args.rule, changed, pairs)
    _tell(report.replayed(matrix, extent, under, verbose=args.verbose))


def _cache(args: argparse.Namespace) -> None:
    from analysis import measure  # NumPy, too

    with closing(analysis.open_store(args.store)) as con:
        figures = measure.cache(con, args.ttl or measure.TTLS_S)
    if args.json:
        _print_json(figures)
        return
    _tell(report.cache(figures))


def _retention(args: argparse.Namespace) -> None:
    from analysis import storage  # NumPy, too

    with closing(analysis.open_store(args.store)) as con:
        figures = storage.retention(con, args.days)
        by_days = storage.retention_by_days(con)
        figures |= {
            "knee_days": storage.knee(by_days),
            "purged_bound": storage.PURGED_BOUND,
            "shortest": storage.best_retention(by_days),
            "outlook": storage.outlook(storage.growth(con)),
        }
    if args.json:
        _print_json(figures)
        return
    _tell(report.retention(figures))


def _case(args: argparse.Namespace) -> None:
    with closing(analysis.open_store(args.store)) as con:
        page = case.write(con, args.check_id, analysis.explain_check, analysis.derive, pseudonymize=args.pseudonymize)
    try:
        with args.out.open("x", encoding="utf-8") as file:
            try:
                file.write(page)
                file.flush()
            except OSError:
                args.out.unlink()
                raise
    except FileExistsError:
        raise ForensicsError(f"{args.out} exists already, and is left as it is: give a new file") from None
    except OSError as error:
        raise ForensicsError(f"cannot write {args.out}: {error.strerror}") from None
    if args.json:
        _print_json({"check_id": args.check_id, "out": str(args.out), "bytes": len(page.encode())})
    else:
        print(f"{args.out}: check {args.check_id}, {len(page.encode()):,} bytes; forensics verify {args.out} derives it again")


def _verify_case(args: argparse.Namespace) -> int:
    try:
        page = args.case.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ForensicsError(f"cannot read {args.case}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    findings = case.verify(page, analysis.explain_check, analysis.derive)
    if findings:
        return _found(args, findings)
    if args.json:
        _print_json({"ok": True, "findings": []})
    else:
        print("The explanation follows from the rows in the file, and the page shows it.")
    return 0


def _found(args: argparse.Namespace, findings: list[custody.Finding]) -> int:
    """Tell findings beside which there is nothing else to tell."""
    if args.json:
        _print_json({"ok": False, "findings": findings})
    else:
        _tell([f"{finding['table']}: {finding['problem']}" for finding in findings])
    return 1


def _verify(args: argparse.Namespace) -> int:
    if (args.case is None) == (args.store is None):
        raise ForensicsError("verify takes a store (--store FILE) or a case file: give one of them")
    if args.case:
        return _verify_case(args)
    try:
        with closing(stores.connect(args.store)) as con:
            return _verify_store(args, con)
    except DamagedError as error:
        return _found(args, custody.missing(error.lacking))
    except duckdb.Error as error:
        return _found(args, [custody.unreadable(args.store.name, error)])


def _verify_store(args: argparse.Namespace, con: duckdb.DuckDBPyConnection) -> int:
    findings = custody.verify(con)
    [(captures, blocks, chain, tenant)] = con.execute("""
        select count(*), (select count(*) from capture_blocks), arg_max(chain_hash, capture_id), any_value(tenant)
        from captures""").fetchall()
    # A folder holds nothing derived.
    derived: report.Derived = "none"
    if not args.store.is_dir():
        differing = custody.derived(args.store, analysis.derive)
        derived = "of another version" if differing is None else "compared"
        findings += differing or []
    if args.dsn:
        from analysis import source

        with source.snapshot(args.dsn, tenant) as connection:
            source.shape(connection)
            findings += custody.compare(con, connection)
    if args.json:
        _print_json({"ok": not findings, "findings": findings, "chain_hash": chain, "derived": derived})
        return int(bool(findings))
    lines = report.verified(pl.DataFrame(findings, infer_schema_length=None), captures, blocks, chain)
    if not findings:
        lines.append(report.as_it_was(derived, of_source=args.dsn is not None))
    _tell(lines)
    return int(bool(findings))


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no instant: give one like 2025-11-15T18:00:00Z") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset: give an instant like 2025-11-15T18:00:00Z")
    return at


def _tell(lines: list[str]) -> None:
    """Print lines for people; whatever of them a source or a file has said cannot write to the terminal."""
    print(phrases.printable("\n".join(lines), keep="\n"))


def _answer(args: argparse.Namespace, data: dict[str, Any], frame: pl.DataFrame) -> None:
    if args.json:
        _print_json(data)
    else:
        print(report.table(frame) if len(frame) else "none")


def _print_json(data: dict[str, Any]) -> None:
    print(report.as_json(data))
