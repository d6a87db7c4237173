"""What one message, one addition and one removal cost in large groups: real engines, real MLS.

Two engines are members and at home; of all others the group has their KeyPackages. Nobody but the
founder has committed, which makes commits as large as they get: a ciphertext for each member
(RFC 9420, section 7.8: unmerged leaves). CPU is that of the engine, with its database in memory,
and of sealing envelopes; bytes are those of sealed envelopes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import mls_rs

from benchmarks.report import Row
from identity.envelope import seal
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.engine import Engine
from node.store.database import MIGRATIONS
from schemas.errors import Fault
from schemas.ids import GroupId
from schemas.parcels import Parcel, pad
from simulation.world.machine import in_memory
from simulation.world.tuning import tuned
from storage.sqlite import migrate

R = TypeVar("R")
NOW: Final = 1_800_000_000.0
SUITES: Final = {"classic": mls_rs.CLASSIC, "hybrid": mls_rs.HYBRID}
TEXT: Final = "x" * 256
TAKEN: Final = 500  # parcels for one device
KIB: Final = 1024.0


class Device:
    """A person's only device."""

    def __init__(self, name: str) -> None:
        disk = in_memory()
        migrate(disk, MIGRATIONS)
        Engine.create(disk, name, now=NOW, random=os.urandom)
        self.engine = Engine(disk, random=os.urandom)

    def ask(self, command: c.Command[R]) -> R:
        answer: Any = self.engine.run([command], NOW).answers[0]
        if isinstance(answer, Fault):
            raise answer
        return answer  # type: ignore[no-any-return]

    def meet(self, other: Device) -> None:
        self.ask(c.AddContact(other.ask(c.WhoAmI()).card))
        core, endpoint = other.ask(d.OwnRecords())
        self.ask(d.ReceiveBundle(core, (endpoint,) if endpoint else ()))


class Crowd:
    """A group of so many devices: its founder, one more, and the rest, of whom it has keys."""

    def __init__(self, suite: int, devices: int) -> None:
        self._suite = suite
        self.devices = devices
        self.founder, self.member = Device("founder"), Device("member")
        self.group: GroupId = self.founder.ask(c.CreateGroup("crowd", suite)).group
        others = [Device(f"m{number}") for number in range(devices - 2)]
        self._last = others[-1].engine.identity.public
        self._invite(self.member, *others)
        del others
        self.hand_over()
        self.member.ask(c.Join(self.group))
        self.hand_over()

    def _invite(self, *devices: Device) -> None:
        for device in devices:
            self.founder.meet(device)
        packages = tuple(device.ask(d.MakeKeyPackage(self._suite))[0] for device in devices)
        people = tuple(device.engine.identity.public for device in devices)
        self.founder.ask(c.Invite(self.group, people, packages))

    def hand_over(self) -> tuple[int, float, float]:
        """To the member: bytes, and CPU seconds of the sealing and of the member's engine."""
        size, sealing_s, opening_s = 0, 0.0, 0.0
        items = self.founder.ask(d.TakeDue(self.member.engine.device.public, TAKEN))
        outcomes = []
        for item in items:
            assert item.hybrid_key is not None
            key, body = item.hybrid_key, pad(item.body)
            begun = time.process_time()
            sealed = seal(key, body)
            sealing_s += time.process_time() - begun
            parcel = Parcel(item.parcel, item.recipient, item.expires, sealed)
            begun = time.process_time()
            verdict = self.member.ask(
                d.Arrived(parcel, "direct", self.founder.engine.device.public)
            )
            opening_s += time.process_time() - begun
            assert isinstance(verdict, v.Accepted), verdict
            outcomes.append(d.Outcome(item.parcel, acked=True))
            size += len(sealed)
        self.founder.ask(d.ReportOutcomes(tuple(outcomes)))
        return size, sealing_s, opening_s

    def send(self) -> None:
        self.founder.ask(c.Send(self.group, TEXT))

    def add(self) -> Callable[[], None]:
        newcomer = Device("newcomer")
        self.founder.meet(newcomer)
        package = newcomer.ask(d.MakeKeyPackage(self._suite))[0]
        invite = c.Invite(self.group, (newcomer.engine.identity.public,), (package,))
        return lambda: self._ask(invite)

    def remove(self) -> None:
        self.founder.ask(c.RemoveMember(self.group, self._last))

    def _ask(self, command: c.Command[Any]) -> None:
        self.founder.ask(command)


def _measured(crowd: Crowd, what: str, action: Callable[[], None]) -> list[Row]:
    begun = time.process_time()
    action()
    engine_s = time.process_time() - begun
    size, sealing_s, opening_s = crowd.hand_over()
    others = crowd.devices - 1
    return [
        Row(
            f"{what}: the sender",
            engine_s * 1000,
            "ms",
            note=f"and {sealing_s * others * 1000:,.0f} ms to seal it for {others} others; "
            f"{size * others / KIB / KIB:,.1f} MiB in all",
        ),
        Row(f"{what}: a receiver", opening_s * 1000, "ms", note=f"{size / KIB:,.1f} KiB"),
    ]


def rows(quick: bool) -> list[Row]:
    found = []
    for devices in (25,) if quick else (250, 1000):
        for name, suite in SUITES.items():
            if devices == 1000 and suite == mls_rs.HYBRID:
                continue  # its commits, of 1.3 MB, fit no parcel
            with tuned(idle_s=30.0, devices=devices + 1):
                crowd = Crowd(suite, devices)
                where = f"{devices} devices, {name}"
                crowd.send()
                crowd.hand_over()  # the first message also sets up what later ones find
                found += _measured(crowd, f"message, {where}", crowd.send)
                found += _measured(crowd, f"add one, {where}", crowd.add())
                found += _measured(crowd, f"remove one, {where}", crowd.remove)
    return found
