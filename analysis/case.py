"""One check as a file for a ticket: the rows that its explanation rests on, the explanation, and a hash over both.

The file is a page that any browser shows, with the rows in it as JSON. Whoever has the file and this kit can derive the
explanation from those rows again, offline, and see that it is the one on the page.
"""

import json
import re
import secrets
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from html import escape, unescape
from importlib.metadata import version
from typing import Any
from unicodedata import normalize
from uuid import UUID

import duckdb

from analysis import manifest, query, stores
from analysis.model import ForensicsError, StoreError

Explain = Callable[[duckdb.DuckDBPyConnection, str], Any]
Derive = Callable[[duckdb.DuckDBPyConnection], None]
Tables = dict[str, dict[str, list[Any]]]
"""Name → its columns, each with its type, and its rows, every value as text."""

_PAYLOAD = re.compile(r'<script type="application/json" id="case">(.*?)</script>', re.DOTALL)
_WORD = "the restaurant's name is a word that the rows need for something else: it cannot be replaced everywhere"
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE)


def write(
    con: duckdb.DuckDBPyConnection, check_id: str, explain: Explain, derive: Derive, *, pseudonymize: bool = False
) -> str:
    """Return the case file of one check.

    With ``pseudonymize`` every uuid is replaced by another, each always by the same, and restaurants' names by their new ids;
    what replaced what is written nowhere, and numbers of checks, instants and free text stay. Raises NotFoundError for a
    check that the store has not, ForensicsError where an id or a name cannot be replaced everywhere, or where the rows
    alone do not lead to the explanation.
    """
    told = explain(con, check_id)
    tables = _rows(con, told.check)
    if pseudonymize:
        # A check of the idempotency shape goes by its booking: its id is another afterwards, too.
        held = tables["raw_confirmations"]
        at = held["columns"].index(["key", "VARCHAR"])
        places = [place for place, row in enumerate(held["rows"]) if row[at] == check_id]
        tables = _pseudonymized(tables)
        check_id = tables["raw_confirmations"]["rows"][places[0]][at] if places else check_id
        try:
            page = _page(check_id, tables, explain, derive, pseudonymized=True)
        except (duckdb.Error, LookupError):
            raise ForensicsError(_WORD) from None
        _nothing_left(page, _rows(con, told.check))
        if _verdict(_payload(page)["explanation"]) != _verdict(told.data):
            raise ForensicsError(_WORD)
        return page
    page = _page(check_id, tables, explain, derive, pseudonymized=False)
    if _payload(page)["explanation"] != json.loads(json.dumps(told.data)):
        raise ForensicsError(f"check {check_id}: the rows that it cites do not lead to its explanation; please report this")
    return page


def verify(page: str, explain: Explain, derive: Derive) -> list[dict[str, Any]]:
    """Derive the explanation of a case file from its rows again; list what is not as it was written.

    Raises StoreError for a text that is no case file.
    """
    payload = _payload(page)
    if payload["hash"] != _hash(payload):
        return [_finding("payload", "the rows or the explanation were changed after the file was written")]
    try:
        again = _page(str(payload["check_id"]), payload["tables"], explain, derive, pseudonymized=payload["pseudonymized"])
    except (duckdb.Error, ForensicsError, LookupError, TypeError, ValueError, AttributeError) as error:
        return [_finding("payload", f"its rows are not those of a store: {' '.join(str(error).split())[:200]}")]
    if payload["kit"] != _kit():
        # Another version may tell the same in other words, and nobody here can say whether the page is what it told.
        here, there = _payload(again)["explanation"], payload["explanation"]
        same = all(here.get(key) == there.get(key) for key in ("recorded_verdict", "replayed_verdict", "cause", "rivals"))
        found = "its rows lead to the same verdict, cause and rivals" if same else "its rows lead to another explanation"
        return [_finding("page", f"written by {payload['kit']}, here is {_kit()}: {found}; what it shows was not compared")]
    if _payload(again)["explanation"] != payload["explanation"]:
        return [_finding("explanation", "it does not follow from the rows")]
    return [] if again == page else [_finding("page", "it shows something else than what it holds")]


def _verdict(told: dict[str, Any]) -> tuple[Any, ...]:
    return told["recorded_verdict"], told["replayed_verdict"], told["cause"], len(told["rivals"])


def _rows(con: duckdb.DuckDBPyConnection, check: Any) -> Tables:
    """Gather the raw rows that the explanation of a check rests on."""
    # A rival of any source but these two is known, or known to have moved, from rows that are not the check's own.
    elsewhere = [c.rival.allocation_id for c in check.conflicts if c.rival.source not in ("snapshot", "same request")]
    # What alternatives were not offered for.
    elsewhere += [row["allocation_id"] for row in query.rows(con, "replay/meanwhile", check_id=check.check_id)]
    own = con.execute(
        "select distinct allocation_id from allocation_versions where booking_id = $booking", {"booking": check.booking_id}
    ).fetchall()
    allocations = [*elsewhere, *(allocation_id for (allocation_id,) in own)]
    # A rival that no capture of the tables holds was seen in the snapshots of other checks: the first and the last of them.
    seen = con.execute(
        """
        select unnest([arg_min(c.check_id, c.checked_at), arg_max(c.check_id, c.checked_at)])
        from snapshot_allocations as a inner join checks as c using (check_id)
        where list_contains($ids, a.allocation_id) group by a.allocation_id, a.shadow, a."window", a.updated_at""",
        {"ids": elsewhere},
    ).fetchall()
    if check.shape == "idempotency":
        # Without a snapshot of its own the check's state is in the rows of others, and in what the logs tell of them.
        beside = (*check.state, *check.leftovers)
        allocations += [a.allocation_id for a in beside]
        about = {check.booking_id, *(a.booking_id for a in (*beside, *(c.rival for c in check.conflicts)))} - {None}
    else:
        about = set()
    logged = con.execute(
        "select source, key from logged where list_contains($about, booking_id) union "
        "select 'table_holds', hold_id from holds where list_contains($about, booking_id)",
        {"about": sorted(about)},
    ).fetchall()
    looks = (check.next_look, *(c.first_seen for c in check.conflicts))
    told = [look.check_id for look in looks if look is not None and look.check_id is not None]
    named = [a.resource_id for a in (*check.requests, *check.state, *(c.rival for c in check.conflicts))]
    tables = con.execute(
        "select table_id from tables where restaurant_id = $id or list_contains($named, table_id)",
        {"id": check.restaurant_id, "named": named},
    ).fetchall()
    keys = {
        "checks": [check.check_id, *(check_id for (check_id,) in seen), *told],
        "confirmations": [check.check_id],
        **{
            source: [key for each, key in logged if each == source]
            for source in ("capacity_outbox", "audit_logs", "table_holds")
        },
        "allocations": allocations,
        "allocations_archive": allocations,
        "tables": [table_id for (table_id,) in tables],
        "restaurants": [check.restaurant_id],
    }
    chosen = {f"raw_{relation}": ("list_contains($keys, key)", {"keys": listed}) for relation, listed in keys.items()}
    chosen |= {name: ("true", {}) for name in ("raw_rules", "captures")}
    found = "rows_new + rows_changed + rows_vanished > 0"
    chosen["capture_relations"] = (f"rows_read is null or relation = 'allocations' or {found}", {})
    chosen["vanished"] = ("relation = 'rules' or list_contains($keys, key)", {"keys": [*allocations, check.check_id]})
    return {
        name: {
            "columns": [
                [column, str(type_)] for column, type_ in zip(con.table(name).columns, con.table(name).types, strict=True)
            ],
            "rows": [
                list(row)
                for row in con.execute(f"select columns(*)::varchar from {name} where {which} order by all", values).fetchall()
            ],
        }
        for name, (which, values) in chosen.items()
    }


def _pseudonymized(tables: Tables) -> Tables:
    salt = secrets.token_bytes(16)

    def other(found: re.Match[str]) -> str:
        new = UUID(bytes=sha256(salt + UUID(found[0]).bytes).digest()[:16], version=4)
        return str(new) if found[1] else new.hex

    def columns(table: str) -> list[str]:
        return [name for name, _ in tables[table]["columns"]]

    for table, ids in (
        ("raw_checks", {"booking_id"}),
        ("raw_confirmations", {"booking_id", "hold_id"}),
        ("raw_allocations", {"key", "booking_id"}),
        ("raw_restaurants", {"key"}),
    ):
        for row in tables[table]["rows"]:
            for name, value in zip(columns(table), row, strict=True):
                if name in ids and value is not None and not _UUID.fullmatch(value):
                    raise ForensicsError(f"{table}.{name} holds {value!r}: only ids that are uuids can be replaced everywhere")
    id_at, name_at = (columns("raw_restaurants").index(column) for column in ("key", "name"))
    names: dict[str, str] = {}
    for row in tables["raw_restaurants"]["rows"]:
        if name := row[name_at]:
            # As it is, and as it may stand inside JSON.
            spellings = (name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1])
            names |= dict.fromkeys(spellings, f"restaurant {_UUID.sub(other, row[id_at])[:8]}")

    def replaced(value: str | None) -> str | None:
        # The longest first: an older name may be a part of a newer one.
        for old in sorted(names, key=len, reverse=True):
            value = value.replace(old, names[old]) if value else value
        return value and _UUID.sub(other, value)

    return {
        table: held | {"rows": [[replaced(value) for value in row] for row in held["rows"]]} for table, held in tables.items()
    }


def _nothing_left(page: str, tables: Tables) -> None:
    """Raise ForensicsError where a page still holds an id or a name out of the rows as they were."""
    values = [value for held in tables.values() for row in held["rows"] for value in row if value is not None]
    ids = {UUID(found[0]) for value in values for found in _UUID.finditer(value)}
    pictures = "".join(b64decode(found).decode() for found in re.findall(r"base64,([\w+/=]+)", page))
    shown = (page + pictures).lower()
    left = [str(each) for each in ids if str(each) in shown or each.hex in shown]
    # A name may be any word, of markup too: it is looked for in what people read and rows hold.
    payload = _payload(page)
    marked = re.sub(r"<[^>]*>", " ", _PAYLOAD.sub("", page) + pictures)
    told = _one_spelling("\n".join([unescape(marked), *_texts(payload["explanation"]), *_texts(payload["tables"])]))
    at = tables["raw_restaurants"]["columns"].index(["name", "VARCHAR"])
    left += [row[at] for row in tables["raw_restaurants"]["rows"] if row[at] and _one_spelling(row[at]) in told]
    if left:
        raise ForensicsError(f"{len(left)} ids or names of this check stand in texts where they cannot be replaced")


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a JSON value, and in the JSON that a text holds; names of keys are none."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):
            with suppress(json.JSONDecodeError, RecursionError):
                yield from _texts(json.loads(value))


def _one_spelling(text: str) -> str:
    """Write a text so that spellings which read alike are alike: composed, and in small letters."""
    return normalize("NFC", text).casefold()


def _page(check_id: str, tables: Tables, explain: Explain, derive: Derive, *, pseudonymized: bool) -> str:
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as con:
        con.execute("set TimeZone = 'UTC'").fetchall()
        # What the version that wrote the file did not know of had nothing to say in it.
        first = [name for name in manifest.FIRST_FORM if name not in ("capture_relations", "capture_blocks")]
        later = [f"raw_{relation}" for relation in stores.RELATIONS if f"raw_{relation}" not in first]
        for name in (*first, *(name for name in (*later, "capture_relations") if name in tables)):
            columns = tables[name]["columns"]
            # Names and types are bound to what a store has: nothing of a file reaches the statement.
            if any(not re.fullmatch(r"\w+", column) or not re.fullmatch(r"[A-Z ]+", type_) for column, type_ in columns):
                raise StoreError(f"the case file names columns of {name} that no store has")
            con.execute(f"create table {name} ({', '.join(f'{column} {type_}' for column, type_ in columns)})").fetchall()
            for row in tables[name]["rows"]:
                con.execute(f"insert into {name} values ({', '.join('?' * len(columns))})", row).fetchall()
        stores.lay_out(con, {})
        manifest.prepare(con)
        derive(con)
        told = explain(con, check_id)
        payload = {
            "check_id": check_id,
            "kit": _kit(),
            "pseudonymized": pseudonymized,
            "explanation": json.loads(json.dumps(told.data)),
            "tables": tables,
        }
        payload["hash"] = _hash(payload)
        # A script's text ends at the first tag that closes it.
        held = json.dumps(payload, ensure_ascii=True).replace("<", "\\u003c")
        return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Case of check {escape(check_id)}</title></head>
<body style="font-family:sans-serif;max-width:70em;margin:2em auto;padding:0 1em">
{told._repr_html_()}
<h2>The same as text</h2>
<pre style="white-space:pre-wrap">{escape(str(told))}</pre>
<p><small>This page holds the rows that the explanation rests on; with them, <code>forensics verify</code> derives it again.
SHA-256 {payload["hash"]}</small></p>
<script type="application/json" id="case">{held}</script>
</body></html>
"""


def _payload(page: str) -> dict[str, Any]:
    found = _PAYLOAD.search(page)
    try:
        payload: dict[str, Any] = json.loads(found[1]) if found else {}
    except (json.JSONDecodeError, RecursionError):
        payload = {}
    if (
        not isinstance(payload, dict)
        or not {"check_id", "kit", "pseudonymized", "explanation", "tables", "hash"} <= payload.keys()
    ):
        raise StoreError("this is no case file: expected a page that forensics case wrote, with its rows in it")
    return payload


def _hash(payload: dict[str, Any]) -> str:
    signed = {key: value for key, value in payload.items() if key != "hash"}
    return sha256(json.dumps(signed, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _kit() -> str:
    return f"booking-forensics {version('booking-forensics')} {query.digest()[:12]}"


def _finding(part: str, problem: str) -> dict[str, Any]:
    return {"table": part, "problem": problem}
