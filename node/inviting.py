"""Gathering what an invitation needs: everybody's bundle and one KeyPackage per device."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from node.delivery.asking import Ask
from node.delivery.obtain import NO_KEY_PACKAGE, Obtainer
from node.delivery.publish import SUITES
from node.engine.commands import DevicesOf
from node.engine.delivery_commands import KnownNumber, LookUpPeer
from schemas.errors import Fault, Refused, Unreachable
from schemas.ids import DeviceKey, IdentityKey


def suite_number(name: str) -> int:
    """Of "hybrid" or "classic". Raises Refused `unknown-suite`."""
    for number, known in SUITES.items():
        if known == name:
            return number
    raise Refused("unknown-suite", f"no cipher suite is called {name!r}")


async def gather_key_packages(
    ask: Ask,
    obtainer: Obtainer,
    people: Sequence[IdentityKey],
    suite: int,
    *,
    present: Collection[DeviceKey] = (),
) -> tuple[bytes, ...]:
    """KeyPackages of the suite of all devices of these people but those `present`.

    Raises Unreachable `unreachable` when somebody's bundle or KeyPackages cannot be had now,
    Refused `no-key-package` when they were asked and have none of this suite; both with names.
    """
    found = await asyncio.gather(
        *(_of_person(ask, obtainer, person, suite, present) for person in people),
        return_exceptions=True,
    )
    failures: list[tuple[IdentityKey, Fault]] = []
    packages: list[bytes] = []
    for person, result in zip(people, found, strict=True):
        if isinstance(result, Fault):
            failures.append((person, result))
        elif isinstance(result, BaseException):
            raise result
        else:
            packages += result
    if not failures:
        return tuple(packages)
    names = ", ".join([await _name(ask, person) for person, _ in failures])
    if all(fault.code == NO_KEY_PACKAGE for _, fault in failures):
        raise Refused(
            NO_KEY_PACKAGE,
            f"no {SUITES.get(suite, suite)} KeyPackage to be had of {names}",
            hint="ask them to start their node, or create the group with another suite",
        )
    other = next(fault for _, fault in failures if fault.code != NO_KEY_PACKAGE)
    if not isinstance(other, Unreachable):
        raise other
    raise Unreachable(
        "unreachable",
        f"not reachable now, neither directly nor through a relay: {names}",
        hint="try again when they are online, or name a relay that both of you use",
    )


async def _of_person(
    ask: Ask,
    obtainer: Obtainer,
    person: IdentityKey,
    suite: int,
    present: Collection[DeviceKey],
) -> list[bytes]:
    devices = await ask(DevicesOf(person))
    if not await ask(KnownNumber(person)):
        await obtainer.bundle(person, devices)
        if not await ask(KnownNumber(person)):
            raise Unreachable("unreachable", "their contact bundle cannot be had now")
        devices = await ask(DevicesOf(person))
    wanted = [device for device in devices if device not in present]
    found = await asyncio.gather(
        *(obtainer.key_package(device, suite) for device in wanted), return_exceptions=True
    )
    packages = [result for result in found if isinstance(result, bytes)]
    if not packages:  # a person with one reachable device is in; the others follow by themselves
        for result in found:
            if isinstance(result, BaseException):
                raise result
    return packages


async def _name(ask: Ask, person: IdentityKey) -> str:
    for device in await ask(DevicesOf(person)):
        peer = await ask(LookUpPeer(device))
        if peer.name:
            return peer.name
    return person.hex()[:12]
