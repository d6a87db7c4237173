"""Parcels carried by hand: out of the outbox into a file, and out of a file to the engine."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from identity.envelope import seal
from node.backup_file import check_free
from node.delivery.asking import Ask
from node.delivery.publish import SUITES
from node.engine.commands import DevicesOf, ListBlocked, WhoAmI
from node.engine.delivery_commands import (
    AnswerKeyPackage,
    Arrived,
    LookUpPeer,
    NoteExported,
    OwnRecords,
    PendingCount,
    ReadOutbox,
    ReceiveIntroduction,
)
from node.engine.outbox import CARRIED
from node.engine.values import Accepted, AccountView, Deferred, Rejected, Verdict, WaitingParcel
from node.parcel_file import (
    Kind,
    ParcelFileWriter,
    Record,
    open_parcel_file,
    read_records_untrusted,
)
from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.ids import DeviceKey, GroupId, IdentityKey, MessageId
from schemas.introduction import Introduction
from schemas.limits import MIB, REQUEST_ID
from schemas.parcels import Parcel, pad

KEY_PACKAGES: Final = 4  # of each suite for one person: into as many groups they can invite us
_BATCH_RECORDS: Final = 64
_BATCH_BYTES: Final = 8 * MIB
_NOTED_AT_ONCE: Final = 500


@dataclass(slots=True)
class Exported:
    """`recipients` are (identity, name); `keyless` parcels stayed out: nothing seals them yet."""

    parcels: int = 0
    bytes: int = 0
    keyless: int = 0
    introduces: bool = False
    recipients: list[tuple[IdentityKey, str]] = field(default_factory=list)


@dataclass(slots=True)
class Imported:
    """`parcels` is the sum of new, known, others', later (to be imported again) and refused, by
    reason. `introduced` are people, as (identity, name); `strangers` says who was not."""

    parcels: int = 0
    bytes: int = 0
    new: int = 0
    known: int = 0
    others: int = 0
    later: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    introduced: list[tuple[IdentityKey, str]] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def count(self, verdict: Verdict) -> None:
        match verdict:
            case Accepted(known=True):
                self.known += 1
            case Accepted():
                self.new += 1
            case Deferred():
                self.later += 1
            case Rejected(code):
                self.refused[code] += 1

    def __str__(self) -> str:
        refused = "".join(f", {count} refused ({code})" for code, count in self.refused.items())
        return (
            f"{self.new} new, {self.known} known, {self.others} for others, {self.later} for"
            f" later{refused}"
        )


# --- out


async def export_parcels(
    ask: Ask,
    file: Path,
    *,
    person: IdentityKey | None = None,
    group: GroupId | None = None,
    replace: bool = False,
) -> Exported:
    """Everything that waits in the outbox, or that for a person or group, sealed into a new file.

    It waits on all the same. For a person the file also holds what they need to invite us. Raises
    Refused `file-exists`, `nothing-waits`, `too-many-parcels`; Fault `cannot-write-file`.
    """
    if not replace:
        check_free(file)
    await ask(PendingCount(tell=True))  # receipts that are owed are parcels now
    introduction = None if person is None else await _introduction(ask, person)
    devices: tuple[DeviceKey, ...] | None = None
    if person is not None:
        devices = await ask(DevicesOf(person))
    done = Exported(introduces=introduction is not None)
    messages: list[tuple[MessageId, DeviceKey]] = []
    seen: dict[DeviceKey, None] = {}
    with ParcelFileWriter(file) as writer:
        if introduction is not None:
            writer.introduction(introduction)
        page = await ask(ReadOutbox(recipients=devices, group=group))
        while page:
            sealed = await asyncio.to_thread(_write, writer, page)
            done.parcels += len(sealed)
            done.keyless += len(page) - len(sealed)
            seen.update(dict.fromkeys(waiting.item.recipient for waiting in sealed))
            messages += [(w.message, w.item.recipient) for w in sealed if w.message is not None]
            page = await ask(ReadOutbox(page[-1].place, devices, group))
        if not writer.records:
            raise _nothing(done.keyless)
    done.bytes = writer.bytes
    for start in range(0, len(messages), _NOTED_AT_ONCE):
        noted = tuple(messages[start : start + _NOTED_AT_ONCE])
        await ask(NoteExported(noted, file.name))
    done.recipients = await _people(ask, seen)
    return done


def _nothing(keyless: int) -> Refused:
    if keyless:
        return Refused(
            "nothing-waits",
            f"{keyless} parcels wait, and none can be sealed: their readers' keys are not here",
            hint="import a file from them first, which they made with --for",
        )
    return Refused(
        "nothing-waits",
        "no parcel waits to be sent",
        hint="to be invited without a network: export-parcels FILE --for PERSON",
    )


def _write(writer: ParcelFileWriter, page: tuple[WaitingParcel, ...]) -> list[WaitingParcel]:
    """Those that can be sealed. Raises as `ParcelFileWriter.parcel`."""
    sealed = []
    for waiting in page:
        item = waiting.item
        try:
            envelope = seal(item.hybrid_key or b"", pad(item.body))
        except Malformed:
            continue
        writer.parcel(Parcel(item.parcel, item.recipient, item.expires, envelope))
        sealed.append(waiting)
    return sealed


async def _introduction(ask: Ask, reader: IdentityKey) -> Introduction:
    """Ours. Raises Refused `blocked`; `unknown-person` for one whose card was never here."""
    devices = await ask(DevicesOf(reader))
    if not devices:
        raise Refused(
            "unknown-person",
            "no device of this person is known",
            hint="add their card: `contacts add CARD`",
        )
    if any(blocked.identity == reader for blocked in await ask(ListBlocked())):
        raise Refused("blocked", "you blocked this person", hint="quicnprotochat unblock KEY")
    core, _ = await ask(OwnRecords())
    packages = [
        await ask(AnswerKeyPackage(devices[0], suite, os.urandom(REQUEST_ID)))
        for suite in SUITES
        for _ in range(KEY_PACKAGES)
    ]
    return Introduction(reader, core, tuple(packages))


async def _people(ask: Ask, devices: dict[DeviceKey, None]) -> list[tuple[IdentityKey, str]]:
    """Whose devices these are."""
    found: dict[IdentityKey, str] = {}
    for device in devices:
        peer = await ask(LookUpPeer(device))
        if peer.identity is not None:
            found[peer.identity] = peer.name
    return list(found.items())


# --- in


async def import_parcels(ask: Ask, file: Path) -> Imported:
    """Hands the file's parcels for this device to the engine, which keeps each once.

    Where the file is damaged, what came before is taken, and the fault says so. Raises Fault
    `cannot-read-file`, Refused `not-a-parcel-file`, Malformed as `read_records_untrusted`; the
    engine's Faults when nothing can be stored.
    """
    me = await ask(WhoAmI())
    done = Imported()
    with open_parcel_file(file) as opened:
        records = read_records_untrusted(opened.read)
        while True:
            batch, damage = await asyncio.to_thread(_batch, records)
            await asyncio.gather(*(_take(ask, me, record, done) for record in batch))
            if damage is not None:
                raise _with_counts(damage, done)
            if not batch:
                break
        done.bytes = opened.tell()
    return done


def _batch(records: Iterator[Record]) -> tuple[list[Record], Fault | None]:
    """The next records, none at the end; and the fault that ended them, if one did."""
    batch: list[Record] = []
    size = 0
    try:
        while len(batch) < _BATCH_RECORDS and size < _BATCH_BYTES:
            record = next(records, None)
            if record is None:
                break
            batch.append(record)
            size += len(record[1])
    except Malformed as fault:
        return batch, fault
    except OSError as error:
        why = f"the file cannot be read: {error.strerror}"
        return batch, Fault("cannot-read-file", why, blame=Blame.ENVIRONMENT)
    return batch, None


def _with_counts(damage: Fault, done: Imported) -> Fault:
    if not done.parcels:
        return damage
    told = f"{damage.message}; of the {done.parcels} parcels before that: {done}"
    return Fault(damage.code, told, blame=damage.blame, hint=damage.hint)


async def _take(ask: Ask, me: AccountView, record: Record, done: Imported) -> None:
    """One record. Raises the Fault of an engine that cannot store it."""
    kind, content = record
    done.parcels += kind is Kind.PARCEL
    try:
        if kind is Kind.INTRODUCTION:
            await _meet(ask, me, Introduction.decode(content), done)
            return
        parcel = Parcel.decode(content)
        if parcel.recipient == me.device:
            done.count(await ask(Arrived(parcel, CARRIED)))
        else:
            done.others += 1
    except Fault as fault:
        if fault.blame is not Blame.PEER:
            raise
        if fault.code == "not-a-contact":
            done.strangers.append(fault.message)
        else:
            done.refused[fault.code] += 1


async def _meet(ask: Ask, me: AccountView, introduction: Introduction, done: Imported) -> None:
    if introduction.reader != me.identity:
        return  # its KeyPackages are for somebody else, who may be using them
    identity = await ask(ReceiveIntroduction(introduction))
    for device in (await ask(DevicesOf(identity)))[:1]:
        done.introduced.append((identity, (await ask(LookUpPeer(device))).name))
