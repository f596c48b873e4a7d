"""One check as a file for a ticket: the rows that its explanation rests on, the explanation, and a hash over both.

The file is a page that any browser shows, with the rows in it as JSON. Whoever has the file and this kit can derive the
explanation from those rows again, offline, and see that it is the one on the page.
"""

import json
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from html import escape
from importlib.metadata import version
from typing import Any
from uuid import UUID

import duckdb

from analysis import capture, query
from analysis.model import ForensicsError, StoreError

Explain = Callable[[duckdb.DuckDBPyConnection, str], Any]
Derive = Callable[[duckdb.DuckDBPyConnection], None]
Tables = dict[str, dict[str, list[Any]]]
"""Name → its columns, each with its type, and its rows, every value as text."""

_PAYLOAD = re.compile(r'<script type="application/json" id="case">(.*?)</script>', re.DOTALL)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)


def write(
    con: duckdb.DuckDBPyConnection, check_id: str, explain: Explain, derive: Derive, *, pseudonymize: bool = False
) -> str:
    """Return the case file of one check.

    With ``pseudonymize`` every uuid is replaced by another, each always by the same, and the restaurant's name by its new id;
    what replaced what is written nowhere. Raises NotFoundError for a check that the store has not, ForensicsError where the
    ids to replace are no uuids, or where the rows alone do not lead to the explanation.
    """
    told = explain(con, check_id)
    tables = _rows(con, told.check)
    if pseudonymize:
        tables = _pseudonymized(tables)
    page = _page(check_id, tables, explain, derive, pseudonymized=pseudonymize)
    if not pseudonymize and _payload(page)["explanation"] != json.loads(json.dumps(told.data)):
        raise ForensicsError(f"check {check_id}: the rows that it cites do not lead to its explanation; please report this")
    return page


def verify(page: str, explain: Explain, derive: Derive) -> list[dict[str, Any]]:
    """Derive the explanation of a case file from its rows again; list what is not as it was written.

    Raises StoreError for a text that is no case file.
    """
    payload = _payload(page)
    check_id, tables = payload["check_id"], payload["tables"]
    if payload["hash"] != _hash(payload):
        return [_finding("payload", "the rows or the explanation were changed after the file was written")]
    again = _page(check_id, tables, explain, derive, pseudonymized=payload["pseudonymized"])
    if payload["kit"] != _kit():
        # Another version may tell the same in other words: what it finds must still be the same.
        here, there = _payload(again)["explanation"], payload["explanation"]
        same = all(here.get(key) == there.get(key) for key in ("recorded_verdict", "replayed_verdict", "cause", "rivals"))
        return [] if same else [_finding("explanation", "this version of the kit comes to another explanation")]
    if _payload(again)["explanation"] != payload["explanation"]:
        return [_finding("explanation", "it does not follow from the rows")]
    return [] if again == page else [_finding("page", "it shows something else than what it holds")]


def _rows(con: duckdb.DuckDBPyConnection, check: Any) -> Tables:
    """Gather the raw rows that the explanation of a check rests on."""
    elsewhere = [c.rival.allocation_id for c in check.conflicts if c.rival.source in ("later evidence", "other restaurant")]
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
    named = [a.resource_id for a in (*check.requests, *check.state, *(c.rival for c in check.conflicts))]
    tables = con.execute(
        "select table_id from tables where restaurant_id = $id or list_contains($named, table_id)",
        {"id": check.restaurant_id, "named": named},
    ).fetchall()
    keys = {
        "checks": [check.check_id, *(check_id for (check_id,) in seen)],
        "allocations": allocations,
        "allocations_archive": allocations,
        "tables": [table_id for (table_id,) in tables],
        "restaurants": [check.restaurant_id],
    }
    chosen = {f"raw_{relation}": ("list_contains($keys, key)", {"keys": listed}) for relation, listed in keys.items()}
    chosen |= {name: ("true", {}) for name in ("raw_rules", "captures")}
    chosen["vanished"] = ("relation = 'rules'", {})
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
        return str(UUID(bytes=sha256(salt + UUID(found[0]).bytes).digest()[:16], version=4))

    def columns(table: str) -> list[str]:
        return [name for name, _ in tables[table]["columns"]]

    for table, ids in (
        ("raw_checks", {"booking_id"}),
        ("raw_allocations", {"key", "booking_id"}),
        ("raw_restaurants", {"key"}),
    ):
        for row in tables[table]["rows"]:
            for name, value in zip(columns(table), row, strict=True):
                if name in ids and value is not None and not _UUID.fullmatch(value):
                    raise ForensicsError(f"{table}.{name} holds {value!r}: only ids that are uuids can be replaced everywhere")
    replaced: Tables = json.loads(_UUID.sub(other, json.dumps(tables)))
    for row in replaced["raw_restaurants"]["rows"]:
        names = columns("raw_restaurants")
        row[names.index("name")] = f"restaurant {row[names.index('key')][:8]}"
    return replaced


def _page(check_id: str, tables: Tables, explain: Explain, derive: Derive, *, pseudonymized: bool) -> str:
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as con:
        con.execute("set TimeZone = 'UTC'").fetchall()
        for name in (*(f"raw_{relation}" for relation in capture.RELATIONS), "captures", "vanished"):
            columns = tables[name]["columns"]
            # Names and types are bound to what a store has: nothing of a file reaches the statement.
            if any(not re.fullmatch(r"\w+", column) or not re.fullmatch(r"[A-Z ]+", type_) for column, type_ in columns):
                raise StoreError(f"the case file names columns of {name} that no store has")
            con.execute(f"create table {name} ({', '.join(f'{column} {type_}' for column, type_ in columns)})").fetchall()
            for row in tables[name]["rows"]:
                con.execute(f"insert into {name} values ({', '.join('?' * len(columns))})", row).fetchall()
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
    except json.JSONDecodeError:
        payload = {}
    if not {"check_id", "kit", "pseudonymized", "explanation", "tables", "hash"} <= payload.keys():
        raise StoreError("this is no case file: expected a page that forensics case wrote, with its rows in it")
    return payload


def _hash(payload: dict[str, Any]) -> str:
    signed = {key: value for key, value in payload.items() if key != "hash"}
    return sha256(json.dumps(signed, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _kit() -> str:
    return f"booking-forensics {version('booking-forensics')} {query.digest()[:12]}"


def _finding(part: str, problem: str) -> dict[str, Any]:
    return {"table": part, "problem": problem}
