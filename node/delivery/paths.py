"""Which way goes to whom, for users: candidates, what became of them, what is in use and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from discovery.scope import NetworksNow
from node.delivery.anonymous_relays import AnonymousRelays
from node.delivery.asking import Ask
from node.delivery.candidates import ANSWERED, NO_ANSWER, OVERTAKEN, Candidate, Candidates
from node.delivery.link import Link
from node.delivery.links import Links
from node.delivery.obtain import parse_relays
from node.engine.delivery_commands import LookUpPeer
from node.engine.values import Event
from schemas.addresses import Address, AddressKind
from schemas.ids import DeviceKey
from schemas.path_policy import PathPolicy

RELAY: Final = "relay"


@dataclass(frozen=True, slots=True)
class PathView:
    """One way to a device. `kind`: lan, public, punched or relay; `source`: who told, joined by
    "+"; `tried`: what happened, None if it was not; `age_s`: since it was told, None for relays."""

    device: DeviceKey
    address: str
    kind: str
    source: str
    age_s: float | None
    tried: str | None
    tried_s: float | None
    in_use: bool
    rtt_ms: float | None


@dataclass(frozen=True, slots=True)
class DevicePaths:
    """All ways to a device, best first, and a sentence: which is used, and why no better one."""

    device: DeviceKey
    policy: PathPolicy
    sentence: str
    paths: tuple[PathView, ...]


class Paths:
    def __init__(
        self,
        ask: Ask,
        links: Links,
        candidates: Candidates,
        relays: AnonymousRelays,
        networks: NetworksNow,
        clock: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._links = links
        self._candidates = candidates
        self._relays = relays
        self._networks = networks
        self._clock = clock

    def kind(self, link: Link) -> AddressKind:
        """What kind of path a link takes, as far as it can be told from here."""
        remote, networks = link.connection.remote, self._networks()
        if networks.near(remote.host):
            return AddressKind.LAN
        known = self._candidates.kind(link.peer, remote)
        if known is AddressKind.PUBLIC or (networks.public and not link.dialed):
            return AddressKind.PUBLIC
        return AddressKind.PUNCHED  # one of us was told where the other is seen

    async def changed(self, device: DeviceKey, link: Link | None) -> Event:
        """For users: which path to a device is in use from now on. Raises Fault."""
        peer = await self._ask(LookUpPeer(device))
        identity = None if peer.identity is None else peer.identity.hex()
        fields: dict[str, object] = {
            "device": device.hex(),
            "identity": identity,
            "name": peer.name,
            "path": None,
        }
        if link is not None:
            fields |= {
                "path": "direct",
                "kind": self.kind(link).value,
                "address": str(link.connection.remote),
            }
        return Event("path-changed", fields)

    async def of(self, device: DeviceKey) -> DevicePaths:
        peer = await self._ask(LookUpPeer(device))
        link = self._links.get(device)
        known = self._candidates.of(device)
        relays = parse_relays(peer) if peer.policy.by_relay else []
        used = None if link is None else link.connection.remote
        views = [self._candidate(device, each, link) for each in known]
        if link is not None and used not in {each.endpoint.address for each in known}:
            views.append(self._linked(link))
        at_relay = next((relay for relay in relays if self._relays.connected(relay)), None)
        views += [
            PathView(
                device,
                str(relay),
                RELAY,
                RELAY,
                None,
                "answered" if self._relays.connected(relay) else self._relays.why_not(relay),
                None,
                link is None and relay == at_relay,
                None,
            )
            for relay in dict.fromkeys(relays)
        ]
        views.sort(key=lambda view: (not view.in_use, _ORDER.index(view.kind)))
        sentence = self._sentence(link, known, peer.policy, bool(relays), at_relay is not None)
        return DevicePaths(device, peer.policy, sentence, tuple(views))

    def _candidate(self, device: DeviceKey, each: Candidate, link: Link | None) -> PathView:
        now = self._clock()
        in_use = link is not None and link.connection.remote == each.endpoint.address
        return PathView(
            device,
            str(each.endpoint.address),
            each.kind.value,
            "+".join(each.sources),
            max(0.0, now - each.learnt_at),
            each.result or None,
            None if each.tried_at is None else max(0.0, now - each.tried_at),
            in_use,
            _rtt_ms(link) if in_use else None,
        )

    def _linked(self, link: Link) -> PathView:
        """They dialled us, from an address that nobody told."""
        remote: Address = link.connection.remote
        kind = self.kind(link).value
        return PathView(
            link.peer, str(remote), kind, "link", 0.0, "answered", None, True, _rtt_ms(link)
        )

    def _sentence(
        self,
        link: Link | None,
        known: Iterable[Candidate],
        policy: PathPolicy,
        has_relay: bool,
        at_relay: bool,
    ) -> str:
        because = "" if policy is PathPolicy.AUTO else f" The policy for them is {policy.value}."
        if link is not None:
            kind = self.kind(link)
            if kind is AddressKind.LAN:
                return "Linked over the local network: there is no better path." + because
            near = [each for each in known if each.kind is AddressKind.LAN]
            why = _tried(near, "on the local network")
            through = " through a NAT" if kind is AddressKind.PUNCHED else ""
            return f"Linked directly{through}. {why}{because}"
        if policy.hides_address:
            way = "By relay." if at_relay else "A relay of theirs gets it when one answers."
            way = way if has_relay else "No relay is known, so nothing reaches them."
            return f"{way} They are not to see our address.{because}"
        why = _tried(list(known), "of theirs")
        if has_relay and at_relay:
            return f"By relay. {why}{because}"
        if has_relay:
            return f"Not linked; what is sent goes to a relay of theirs. {why}{because}"
        return f"Not reachable now, and no relay may carry it. {why}{because}"


_ORDER: Final = (*(kind.value for kind in AddressKind), RELAY)


def _tried(candidates: list[Candidate], which: str) -> str:
    if not candidates:
        return f"No address {which} is known."
    tried = [each for each in candidates if each.result]
    if not tried:
        return f"No address {which} was tried yet."
    silent = sum(each.result == NO_ANSWER for each in tried)
    other = sorted({each.result for each in tried} - {NO_ANSWER})
    parts = [f"{silent} did not answer"] if silent else []
    parts += ["the last one that worked answers no longer"] if ANSWERED in other else []
    other = [each for each in other if each not in (ANSWERED, OVERTAKEN)]
    parts += [f"last result: {', '.join(other)}"] if other else []
    parts = parts or ["none is in use now"]
    noun = "address" if len(tried) == 1 else "addresses"
    return f"{len(tried)} {noun} {which} tried: {'; '.join(parts)}."


def _rtt_ms(link: Link | None) -> float | None:
    return None if link is None else link.connection.round_trip_s * 1000
