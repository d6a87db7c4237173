"""Rows that are not what this program wrote: a disk that rots, or a file that somebody edited.

Looked for when something could not be read, and not at each start: it walks over everything. What
other rows need is mended; a group that lost something it cannot do without loses its keys, is shown
as damaged and can be invited again; the rest is dropped. The tables are STRICT: lengths, numbers,
words and encodings are what can be wrong.
"""
# ruff: noqa: S608 - the tables and columns are those of the schema

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from node.store.database import Database
from schemas.addresses import Address, RelayAddress
from schemas.card import Card
from schemas.errors import Blame, Fault
from schemas.group_records import CommitHeader, Intent, Statement, Summary
from schemas.ids import DeviceKey, GroupId, Id, IdentityKey, MessageId
from schemas.limits import COUNTER
from schemas.parcels import ParcelBody
from schemas.path_policy import PathPolicy
from schemas.records import HYBRID_KEY_LENGTH, BundleCore, EndpointRecord, RelayStatement, Signed

Good = Callable[[Any], bool]

ACCOUNT: Final = ("meta", "secrets", "hybrid_keys")
"""A few rows that are read once, at the start: looked at each time."""

_STATUS: Final = ("active", "split", "stranded", "leaving", "left", "removed", "restored")
_STATES: Final = ("queued", "sent", "held", "carried", "delivered", "read", "expired", "refused")


def _length(*lengths: int) -> Good:
    return lambda value: len(value) in lengths


def _id(kind: type[Id]) -> Good:
    return _length(kind.LENGTH)


def _number(most: int = COUNTER, least: int = 0) -> Good:
    return lambda value: least <= value <= most


def _clamped(number: str) -> str:
    """SQL: the nearest number that is good."""
    return f"min(max({number}, 0), {COUNTER})"


def _among(*values: object) -> Good:
    return lambda value: value in values


def _read_by(*steps: Callable[[Any], Any]) -> Good:
    def good(value: Any) -> bool:
        try:
            for step in steps:
                value = step(value)
        except (Fault, ValueError):
            return False
        return True

    return good


def _signed(decode: Callable[[bytes], object]) -> Good:
    return _read_by(Signed.decode, lambda signed: decode(signed.payload))


def _list_of(kind: type) -> Good:
    def check(value: str) -> None:
        found = json.loads(value)
        if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
            raise ValueError("another kind of JSON")

    return _read_by(check)


def _prefixed(value: bytes) -> bool:
    """Parts, each after its length in 4 bytes, little-endian."""
    at = 0
    while at < len(value):
        at += 4 + int.from_bytes(value[at : at + 4], "little")
    return at == len(value)


_GROUP, _DEVICE, _IDENTITY = _id(GroupId), _id(DeviceKey), _id(IdentityKey)
_MESSAGE, _HASH = _id(MessageId), _length(32)
_MESSAGES: Good = lambda value: len(value) % MessageId.LENGTH == 0  # noqa: E731 - as those above

# A column that is not named may hold anything of its type; NULL is good where the schema allows it.
_COLUMNS: Final[dict[str, dict[str, Good]]] = {
    "secrets": {"value": _length(32)},
    "hybrid_keys": {"public": _length(HYBRID_KEY_LENGTH), "private": _length(96)},
    "contacts": {"identity": _IDENTITY, "card": _read_by(Card.decode)},
    "bundles": {"identity": _IDENTITY, "signed": _signed(BundleCore.decode)},
    "bundle_devices": {
        "device": _DEVICE,
        "identity": _IDENTITY,
        "hybrid_key": _length(HYBRID_KEY_LENGTH),
    },
    "endpoints": {"device": _DEVICE, "signed": _signed(EndpointRecord.decode)},
    "blocked": {"identity": _IDENTITY},
    "path_policies": {"identity": _IDENTITY, "policy": _among(*PathPolicy)},
    "key_packages": {},
    "carried_key_packages": {"device": _DEVICE, "suite": _among(1, 65100), "taken": _among(0, 1)},
    "relay_statements": {"identity": _IDENTITY, "signed": _signed(RelayStatement.decode)},
    "former_relays": {"device": _DEVICE, "address": _read_by(RelayAddress.parse)},
    "relay_tokens": {"relay": _DEVICE},
    "relay_accounts": {"relay": _DEVICE, "token": _length(32)},
    "dht_contacts": {"device": _DEVICE, "address": _read_by(Address.parse)},
    "groups": {
        "id": _GROUP,
        "kind": _among("group", "direct"),
        "suite": _among(1, 65100),
        "status": _among(*_STATUS),
        "inviter": _IDENTITY,
        "head": _HASH,
        "epoch": _number(),
        "epoch_id": _HASH,
        "epoch_base": _number(least=1),
        "next_sequence": _number(least=1),
        "lamport": _number(),
        "tips": _MESSAGES,
        "summary_number": _number(),
    },
    "members": {"group_id": _GROUP, "device": _DEVICE, "identity": _IDENTITY},
    "epochs": {"group_id": _GROUP, "epoch": _number()},
    "generations": {"group_id": _GROUP, "epoch_id": _HASH, "next": _number((1 << 32) - 1)},
    "commits": {
        "group_id": _GROUP,
        "hash": _HASH,
        "parent": _HASH,
        "epoch": _number(),
        "epoch_id": _HASH,
        "header": _signed(CommitHeader.decode),
    },
    "statements": {"group_id": _GROUP, "device": _DEVICE, "signed": _signed(Statement.decode)},
    "equivocations": {
        "group_id": _GROUP,
        "device": _DEVICE,
        "first": _signed(Statement.decode),
        "second": _signed(Statement.decode),
    },
    "welcomes": {"group_id": _GROUP, "commit_hash": _HASH, "body": _read_by(ParcelBody.decode)},
    "intents": {
        "group_id": _GROUP,
        "author": _DEVICE,
        "signed": _signed(Intent.decode),
        "key_packages": _prefixed,
    },
    "messages": {
        "group_id": _GROUP,
        "author": _DEVICE,
        "id": _MESSAGE,
        "identity": _IDENTITY,
        "sequence": _number(),
        "lamport": _number(),
        "parents": _MESSAGES,
        "sent_ms": _number(),
    },
    "watermarks": {"group_id": _GROUP, "author": _DEVICE, "missing": _list_of(int)},
    "peer_summaries": {"group_id": _GROUP, "device": _DEVICE, "signed": _signed(Summary.decode)},
    "future": {"group_id": _GROUP, "via": _DEVICE, "body": _read_by(ParcelBody.decode)},
    "cursors": {"group_id": _GROUP},
    "payloads": {"group_id": _GROUP, "message": _MESSAGE, "body": _read_by(ParcelBody.decode)},
    "outbox": {"parcel_id": _length(16), "recipient": _DEVICE, "group_id": _GROUP},
    "ledger": {
        "message": _MESSAGE,
        "device": _DEVICE,
        "identity": _IDENTITY,
        "group_id": _GROUP,
        "state": _among(*_STATES),
        "carrier": _DEVICE,
    },
}

# What takes the place of a value that is not good; SQL, over the same row.
_MENDED: Final = {
    "groups": {
        "name": "''",
        "kind": "'group'",
        "suite": "1",
        "status": "'active'",
        "inviter": "NULL",
        "head": "zeroblob(32)",
        "epoch": "0",
        "epoch_id": "zeroblob(32)",
        "epoch_base": "1",
        # A number is never used twice: peers would take this home for a copy.
        "next_sequence": "1 + (SELECT coalesce(max(sequence), 0) FROM messages"
        " WHERE group_id = groups.id AND own)",
        "lamport": f"(SELECT {_clamped('coalesce(max(lamport), 0)')} FROM messages"
        " WHERE group_id = groups.id)",
        "tips": "x''",
        "summary_number": f"{1 << 40}",
        "joined": "0",
    },
    "contacts": {"added": "0"},
    "former_relays": {"since": "0"},
    "relay_accounts": {"expires": "0"},
    "path_policies": {"policy": "'relay-only'"},  # whoever hid their address stays hidden
    "key_packages": {"created": "0", "used": "0"},
    "commits": {"arrival": "0", "entered": "0", "invalid": "'damaged'"},
    "intents": {"seen": "0", "key_packages": "x''"},  # another member may have them
    "messages": {
        "lamport": _clamped("lamport"),
        "parents": "x''",
        "sent_ms": _clamped("sent_ms"),
        "received": "sent_ms / 1000.0",
        "path": "'relay'",
        "text": "'(this message is damaged on this device)'",
    },
    "outbox": {
        "parcel_id": "randomblob(16)",
        "next_try": "0",
        "expires": "0",  # that is told of; a row that is gone would not be
        "group_id": "(SELECT group_id FROM payloads WHERE id = payload)",
    },
    "ledger": {
        "path": "NULL",
        "relay": "NULL",
        "held_until": "NULL",
        "reason": "NULL",
        "updated": "0",
        "carrier": "NULL",
    },
}
_HARMLESS: Final = frozenset({"name", "inviter", "lamport", "tips", "joined"})
_OF_KEYS: Final = ("members", "epochs", "generations")
_OF_TYPE: Final[dict[str, Good]] = {"TEXT": _read_by(bytes.decode), "REAL": math.isfinite}
_SETTINGS: Final[dict[str, Good]] = {
    "name": _read_by(bytes.decode),
    "relays": _list_of(str),
    "bootstrap": _list_of(str),
    "path_policy": _read_by(bytes.decode, PathPolicy),
}


def mend(database: Database, tables: Iterable[str] = ("meta", *_COLUMNS)) -> Counter[str]:
    """Mends and drops rows in a transaction of its own; how many in which table.

    Raises Fault `database-damaged` when the account's own keys are among them.
    """
    found: Counter[str] = Counter()
    with database.transaction():
        for table in tables:
            found[table] = _settings(database) if table == "meta" else _table(database, table)
    return +found


def _settings(database: Database) -> int:
    """Texts are asked for as bytes: apsw raises on what is not UTF-8."""
    rows = database.rows("SELECT CAST(name AS BLOB), typeof(value), CAST(value AS BLOB) FROM meta")
    bad = [
        name
        for name, kind, value in rows
        if not (
            kind == "text" and check(value)
            if (check := _SETTINGS.get(name.decode(errors="replace")))
            else kind in ("integer", "real")
        )
    ]
    for name in bad:
        database.run("DELETE FROM meta WHERE CAST(name AS BLOB) = ?", name)
    return len(bad)


def _table(database: Database, table: str) -> int:
    columns = database.rows(f"SELECT name, type, pk FROM pragma_table_info('{table}')")
    types = {name: kind for name, kind, _ in columns}
    shown = {n: f"CAST({n} AS BLOB)" if kind == "TEXT" else n for n, kind in types.items()}
    checks = {name: _OF_TYPE[kind] for name, kind in types.items() if kind in _OF_TYPE}
    for name, good in _COLUMNS[table].items():
        checks[name] = _read_by(bytes.decode, _holds(good)) if types[name] == "TEXT" else good
    keys = [name for name, _, key in columns if key]
    found = 0
    for row in database.rows(f"SELECT {', '.join(shown.values())} FROM {table}"):
        values = dict(zip(shown, row, strict=True))
        bad = [n for n, good in checks.items() if values[n] is not None and not good(values[n])]
        if bad:
            found += 1
            where = " AND ".join(f"{shown[key]} = ?" for key in keys)
            _mend_row(database, table, bad, where, [values[key] for key in keys])
            if table in _OF_KEYS or (table == "groups" and not _HARMLESS.issuperset(bad)):
                group = values["id" if table == "groups" else "group_id"]
                database.run("DELETE FROM group_state WHERE group_id = ?", group)
    return found


def _mend_row(
    database: Database, table: str, bad: list[str], where: str, keys: list[object]
) -> None:
    if table in ("secrets", "hybrid_keys"):
        raise Fault(
            "database-damaged",
            "the keys of this account are damaged",
            blame=Blame.ENVIRONMENT,
            hint="restore a backup into another home",
        )
    if table == "payloads":
        _give_up(database, where, keys)
    mended = _MENDED.get(table, {})
    if mended.keys() >= set(bad):
        changes = ", ".join(f"{name} = {mended[name]}" for name in bad)
        database.run(f"UPDATE {table} SET {changes} WHERE {where}", *keys)
    else:
        database.run(f"DELETE FROM {table} WHERE {where}", *keys)


def _give_up(database: Database, where: str, keys: list[object]) -> None:
    """What a parcel of ours held is gone: its ledger says so."""
    payload = f"(SELECT {{}} FROM payloads WHERE {where})"
    waiting = "('queued', 'sent', 'held', 'carried')"
    database.run(
        "UPDATE ledger SET state = 'expired', reason = 'damaged'"
        f" WHERE message = {payload.format('message')} AND state IN {waiting}",
        *keys,
    )
    database.run(f"DELETE FROM outbox WHERE payload = {payload.format('id')}", *keys)


def _holds(good: Good) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not good(value):
            raise ValueError("not such a value")

    return check
