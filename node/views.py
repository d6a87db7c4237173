"""What the node answers beyond the engine's views: links, pings, relays; frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.addresses import Address
from schemas.ids import DeviceKey, IdentityKey
from transport.nat import Nat
from transport.port_mapping import Outcome


@dataclass(frozen=True, slots=True)
class PingView:
    """A round trip over the real transport. `path` is "direct" or "relay" (target is a relay)."""

    device: DeviceKey
    rtt_ms: float
    path: str


@dataclass(frozen=True, slots=True)
class HealthView:
    """Whether a relay is up. `status`: "ok"; "unreachable", "relay-key-changed" with `reason`.

    `refused_since`: it has refused parcels for us since then, our mailbox being full (Unix s).
    """

    relay: str  # HOST:PORT#KEY
    status: str
    version: str | None
    uptime_s: int | None
    reason: str | None
    clock_skew_s: float | None = None  # how far the relay's clock is ahead of ours
    refused_since: int | None = None


@dataclass(frozen=True, slots=True)
class RelayView:
    """A relay of ours, or one that was and is read still; times in Unix seconds.

    `order` counts from 1, None for one that was. `state`: "connected"; "connecting"; "refused" or
    "unreachable" with `reason`, a code.
    """

    relay: str  # HOST:PORT#KEY
    order: int | None
    state: str
    reason: str | None
    refused_since: int | None  # our mailbox there is full
    left_at: float | None = None
    read_until: float | None = None  # or until it is empty and everybody knows that we left


@dataclass(frozen=True, slots=True)
class RegisterView:
    """A KeyPackage of ours that a relay took. `fingerprint` is SHA-256 of it, in hex."""

    device: DeviceKey
    fingerprint: str
    relay: str
    suite: str  # "hybrid" or "classic"
    stock: int  # how many of that suite the relay holds for us now


@dataclass(frozen=True, slots=True)
class FetchedKeyView:
    """A KeyPackage that a relay gave out (and, unless `last_resort`, no longer has)."""

    identity: IdentityKey
    device: DeviceKey
    fingerprint: str
    relay: str
    suite: str
    last_resort: bool


@dataclass(frozen=True, slots=True)
class KeyHoldingView:
    """What a relay holds for a person's device."""

    identity: IdentityKey
    device: DeviceKey
    relay: str
    bundle_number: int | None
    hybrid_key: bool
    endpoint: bool


@dataclass(frozen=True, slots=True)
class PeerLinkView:
    """A device that we are connected to, or that is on the LAN.

    `identity` is None until it is proven or known; `source` is "link", "mdns" or both joined by
    "+"; `path` is "direct" while connected, else None; `kind` then "lan", "public" or "punched".
    """

    device: DeviceKey
    identity: IdentityKey | None
    name: str
    addresses: tuple[str, ...]
    source: str
    connected: bool
    path: str | None
    rtt_ms: float | None
    key_exchange: str | None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkView:
    """What is around this node. `nat` is of IPv4. `hosts`: this machine's, IPv4 and IPv6.

    `outcome` of asking the router for a port mapping: None before the first answer, and where
    `asks_router` is False. `answered`: hosts on the Internet that answer us; `relays`: ours there;
    `dialled_back`: the DHT tells whether others reach us. `lan_peers` is None without mDNS.
    """

    listen: Address
    nat: Nat
    hosts: tuple[str, ...]
    asks_router: bool
    outcome: Outcome | None
    answered: int
    relays: int
    dialled_back: bool
    lan_peers: int | None
