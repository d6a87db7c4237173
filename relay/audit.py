"""What an operator does with the audit log: verify it, and sign what must not be taken back.

A checkpoint is one line of JSON, to be kept where whoever rules the relay's machine cannot reach:
on paper, in a mail, with a friend. It says which hash the log had at a row, signed by the relay's
device key. A log that was cut off or written anew does not have that hash.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from identity.keys import KeyPair
from identity.signing import open_signed, sign
from relay.store.audit import AuditReader, Place, Row, Verdict, Verifier
from schemas.errors import Blame, Fault, Malformed
from schemas.ids import DeviceKey
from schemas.records import Signed, SignedType

PORTION = 1000  # rows in memory at a time


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The place at which `relay`'s log was; `time` in Unix seconds."""

    relay: DeviceKey
    place: Place
    time: int


def write_checkpoint(key: KeyPair[DeviceKey], place: Place, now: int) -> str:
    """One line of JSON."""
    payload = place.number.to_bytes(8) + now.to_bytes(8) + place.hash
    signed = sign(SignedType.AUDIT_CHECKPOINT, key, payload)
    return json.dumps(
        {
            "relay": str(key.public),
            "number": place.number,
            "time": now,
            "hash": place.hash.hex(),
            "signature": signed.signature.hex(),
        }
    )


def read_checkpoint_untrusted(line: str) -> Checkpoint:
    """Raises Malformed `bad-checkpoint`, `bad-signature`."""
    try:
        told = json.loads(line)
        relay = DeviceKey.from_hex(told["relay"])
        place = Place(int(told["number"]), bytes.fromhex(told["hash"]))
        now = int(told["time"])
        payload = place.number.to_bytes(8) + now.to_bytes(8) + place.hash
        signed = Signed(payload, bytes(relay), bytes.fromhex(told["signature"]))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise Malformed("bad-checkpoint", "this is not a checkpoint of an audit log") from error
    return open_signed(
        SignedType.AUDIT_CHECKPOINT,
        signed,
        lambda _: Checkpoint(relay, place, now),
        lambda checkpoint: checkpoint.relay,
    )


async def verify(log: AuditReader, checkpoints: Iterable[Checkpoint] = ()) -> Verdict:
    """Read the whole log and compare it with what was signed before."""
    verifier = Verifier(await log.begin(), [each.place for each in checkpoints])
    async for rows in portions(log):
        verifier.read(rows)
    return verifier.verdict()


async def portions(log: AuditReader) -> AsyncIterator[list[Row]]:
    """All rows, in order."""
    after = 0
    while rows := list(await log.rows(after=after, limit=PORTION)):
        yield rows
        after = rows[-1].number


def broken(verdict: Verdict) -> Fault:
    return Fault(
        "audit-broken",
        f"the audit log does not hold: {verdict.fault}",
        blame=Blame.ENVIRONMENT,
        hint="keep a copy of the database; see docs/operations/audit.md",
    )
