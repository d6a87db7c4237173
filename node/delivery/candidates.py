"""What is known of the addresses of others: from whom, and what happened when they were tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from discovery.hosts import with_kind
from discovery.resolver import CANDIDATES, Found
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.errors import Fault
from schemas.ids import DeviceKey
from transport.dial import Tried

ANSWERED: Final = "answered"
OVERTAKEN: Final = "overtaken"  # another one answered first
NO_ANSWER: Final = "no-answer"
MEETING: Final = "meeting"  # the source of what a device said when it was asked to dial us
_TOLD: Final = (MEETING,)


@dataclass(slots=True)
class Candidate:
    """An address of a device. `learnt_at`, `tried_at`: Unix seconds. `result`: ANSWERED, OVERTAKEN
    or the code of what went wrong; empty while it was never tried."""

    endpoint: EndpointAddress
    sources: tuple[str, ...]
    learnt_at: float
    tried_at: float | None = None
    result: str = ""

    @property
    def kind(self) -> AddressKind:
        return self.endpoint.kind


_OF_DEVICE: Final = 2 * CANDIDATES  # those that discovery knows, and as many that it knew


class Candidates:
    """Of at most `devices` devices, those that are looked for last; `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float], devices: int) -> None:
        self._clock = clock
        self._limit = devices
        self._known: dict[DeviceKey, dict[Address, Candidate]] = {}

    def of(self, device: DeviceKey) -> tuple[Candidate, ...]:
        return tuple(self._known.get(device, {}).values())

    def kind(self, device: DeviceKey, address: Address) -> AddressKind | None:
        known = self._known.get(device, {}).get(address)
        return None if known is None else known.kind

    def found(self, device: DeviceKey, found: Iterable[Found], *, all_there_is: bool) -> None:
        """Discovery knows these; with `all_there_is` it knows no others any more."""
        old = self._known.pop(device, {})
        new = {
            address: known
            for address, known in old.items()
            if not all_there_is or known.sources == _TOLD
        }
        for each in found:
            known = old.get(each.address.address)
            new[each.address.address] = Candidate(
                each.address,
                each.sources,
                each.learnt_at,
                None if known is None else known.tried_at,
                "" if known is None else known.result,
            )
        self._keep(device, new)

    @contextmanager
    def attempt(self, device: DeviceKey, addresses: Sequence[Address]) -> Iterator[Tried]:
        """A dial of these addresses; the block gets who is to be told what became of each."""
        started = self._clock()
        self._met(device, addresses)
        told: set[Address] = set()
        answered = False

        def note(address: Address, result: str) -> None:
            known = self._known.get(device, {}).get(address)
            if known is not None:
                known.tried_at, known.result = started, result

        def tried(address: Address, fault: Fault | None) -> None:
            nonlocal answered
            told.add(address)
            answered |= fault is None
            note(address, ANSWERED if fault is None else fault.code)

        rest = OVERTAKEN  # also when the attempt is given up because the peer was faster
        try:
            yield tried
        except Fault:
            rest = NO_ANSWER
            raise
        finally:
            for address in addresses:
                if address not in told:
                    note(address, OVERTAKEN if answered else rest)

    def _met(self, device: DeviceKey, addresses: Sequence[Address]) -> None:
        """Discovery does not know what is dialled: it was told in a meeting; the last counts."""
        known = self._known.get(device, {})
        fresh = [address for address in addresses if address not in known]
        if not fresh:
            return
        kept = {
            address: each
            for address, each in known.items()
            if each.sources != _TOLD or address in addresses
        }
        for address in fresh:
            lan = with_kind(address).kind is AddressKind.LAN
            kind = AddressKind.LAN if lan else AddressKind.PUNCHED
            kept[address] = Candidate(EndpointAddress(address, kind), _TOLD, self._clock())
        self._keep(device, kept)

    def _keep(self, device: DeviceKey, known: dict[Address, Candidate]) -> None:
        self._known.pop(device, None)
        newest = sorted(known.items(), key=lambda entry: entry[1].learnt_at, reverse=True)
        kept = dict(newest[:_OF_DEVICE])
        self._known[device] = {each: known[each] for each in known if each in kept}
        while len(self._known) > self._limit:
            del self._known[next(iter(self._known))]
