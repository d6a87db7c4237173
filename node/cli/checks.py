"""What `doctor` looks at: each check says whether it is well, what was seen, and what to do."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.permissions import too_open
from schemas.errors import Fault
from telemetry.checks import Check

if TYPE_CHECKING:
    from node.api.relay_shapes import Health, Relay
    from node.api.session import Session

_LEAST_FREE: Final = 100 * 1024 * 1024  # bytes; a node with mail for a month needs less
_SLOW_FSYNC_S: Final = 0.5
_BUFFERS: Final = 1024 * 1024  # bytes of UDP buffer below which bursts are lost
REFUSED: Final = {
    "not-admitted": "`quicnprotochat register-user NAME --relay HOST:PORT --invite FILE`, or"
    " `login` with the account you have there; or `relays token HOST:PORT FILE`, or another relay",
    "device-revoked": "`quicnprotochat login NAME` if this device is still yours",
}
_SKEW_S: Final = 60.0  # records and parcels live for hours; TLS has no clock here
_SLOW_ANSWER_S: Final = 2.0


def home_checks(home: Path, encrypted: bool) -> Iterator[Check]:
    """The folder and its disk; the folder exists."""
    yield _permissions(home)
    free = shutil.disk_usage(home).free
    yield Check(
        "disk space",
        free >= _LEAST_FREE,
        f"{free // 2**20} MiB free",
        "" if free >= _LEAST_FREE else "make room: a full disk takes no messages",
    )
    yield _fsync(home)
    yield Check(
        "encryption at rest",
        True,
        "on" if encrypted else "off: who has this disk has your messages",
        "" if encrypted else "`quicnprotochat passphrase set`, unless the disk itself is encrypted",
    )


def _permissions(home: Path) -> Check:
    mode = stat.S_IMODE(home.stat().st_mode)
    found, fixes = [f"{home} has mode {mode:04o}"], []
    if mode & 0o077:
        fixes.append(f"chmod 700 {home}")
    if files := too_open(home):
        found.append(f"others can use {', '.join(file.name for file in files)}")
        fixes.append("restart the node, which makes them private; what was read is not unread")
    return Check("permissions", not fixes, "; ".join(found), "; ".join(fixes))


def _fsync(home: Path) -> Check:
    began = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        return Check("disk writes", False, reason, "check the disk and the folder's permissions")
    took = time.monotonic() - began
    slow = took > _SLOW_FSYNC_S
    fix = "a slow disk makes every message slow: another disk, or less load" if slow else ""
    return Check("disk writes", not slow, f"written and synced in {took * 1000:.1f} ms", fix)


def port_check(listen: str, running: str | None) -> Check:
    """`running` is where a lasting node listens already; else `listen` is tried, and let go."""
    if running is not None:
        return Check("port", True, f"the node listens on {running}")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - as the node does
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((host, int(port)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fix = "end the program that uses it, or `run --listen` with another port"
        return Check("port", False, f"{listen} cannot be bound: {reason}", fix)
    return Check("port", True, f"{listen} is free; no lasting node runs")


def buffers_check() -> Check:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFERS)
        given = tried.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux doubles it
    enough = given >= _BUFFERS
    # A hint, not a failure: a smaller one loses packets in bursts, and nothing else.
    fix = "" if enough else f"sysctl -w net.core.rmem_max={_BUFFERS}, for fast bursts"
    return Check("udp buffers", True, f"{given // 1024} KiB of {_BUFFERS // 1024}", fix)


def node_checks(session: Session) -> Iterator[Check]:
    """The process that runs the home, its account and its relays. Raises what `call` raises."""
    from node.api import operations as op
    from node.api.relay_shapes import HealthOf
    from node.api.shapes import ByPerson, Nothing

    status = session.call(op.NODE, Nothing())
    own = version("quicnprotochat")
    same = status.version == own
    yield Check(
        "versions",
        same,
        f"this program {own}, the node {status.version}, its database up to date",
        "" if same else "restart the node",
    )
    began = time.monotonic()
    account = session.call(op.WHOAMI, Nothing())
    took = time.monotonic() - began
    crashed = sorted(reason for reason in status.counters if "crashed" in reason)
    yield Check(
        "engine",
        took < _SLOW_ANSWER_S and not crashed,
        f"answered in {took * 1000:.1f} ms" + "".join(f", {reason}" for reason in crashed),
        "look at the node's log and restart it" if crashed or took >= _SLOW_ANSWER_S else "",
    )
    yield Check("identity", True, f"{account.name}, {account.identity[:12]}")
    session.call(op.LOOK, Nothing())  # only a look into our mailboxes tells whether they are full
    relays = session.call(op.HEALTH, HealthOf(""))
    if not relays:
        yield Check(
            "relays",
            True,
            "none: messages wait here until their recipients can be reached",
            "run --relay HOST:PORT#DEVICE_KEY, so that they reach people who are away",
        )
    for relay in relays:
        yield from _relay_checks(relay)
    yield from _refusals(session.call(op.RELAYS, Nothing()))
    if status.lasting and any(relay.status == "ok" for relay in relays):
        held = session.call(op.CHECK_KEY, ByPerson(account.identity))
        published = [row for row in held if row.device == status.device and row.bundle_number]
        yield Check(
            "bundle",
            bool(published),
            f"published at {len(published)} of {len(relays)} relays",
            "" if published else "quicnprotochat register: nobody new can reach you by relay",
        )


def _refusals(relays: list[Relay]) -> Iterator[Check]:
    """Relays of ours that are up, and want nothing to do with us."""
    for relay in relays:
        if relay.state == "refused":
            where = relay.relay.partition("#")[0]
            fix = REFUSED.get(relay.reason or "", f"see {relay.reason} in docs/relay-errors.md")
            yield Check(f"member of {where}", False, f"it refuses this node: {relay.reason}", fix)


def _relay_checks(relay: Health) -> Iterator[Check]:
    where = relay.relay.partition("#")[0]
    if relay.status != "ok":
        yield Check(f"relay {where}", False, *_why_not(relay))
        return
    yield Check(f"relay {where}", True, f"up, with the pinned key, version {relay.version}")
    if relay.refused_since is not None:
        yield Check(
            f"mailbox at {where}",
            False,
            f"full: it has refused messages for you since {relay.refused_since}",
            "keep this node running until it has fetched them; their senders try again",
        )
    if relay.clock_skew_s is not None:
        off = abs(relay.clock_skew_s) > _SKEW_S
        ahead = "ahead of" if relay.clock_skew_s > 0 else "behind"
        yield Check(
            "clock",
            not off,
            f"the clock of relay {where} is {abs(relay.clock_skew_s):.1f} s {ahead} ours",
            "set this machine's clock (NTP), or tell the relay's operator" if off else "",
        )


def _why_not(relay: Health) -> tuple[str, str]:
    """What keeps a relay from being used, and what to do."""
    if relay.status == "relay-key-changed":
        detail = "it answers with another key than the pinned one: nothing is given to it"
        fix = (
            "ask its operator: if it was set up anew, `run --relay` with its new address; "
            "if not, somebody else answers there"
        )
        return detail, fix
    return relay.reason or relay.status, "check the network, and that the address is right"


def group_checks(session: Session, name: str) -> Iterator[Check]:
    """Why a group waits. Raises Refused `unknown-group`, and what `call` raises."""
    from node.api import operations as op
    from node.api.shapes import ByGroup

    for found in session.call(op.EXAMINE_GROUP, ByGroup(name)):
        yield Check(found.name, found.ok, found.detail, found.fix)


def failed(name: str, fault: Fault) -> Check:
    """A fault that kept a check from being made."""
    return Check(name, False, f"{fault.message} ({fault.code})", fault.hint)
