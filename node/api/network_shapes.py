"""The JSON about peers, the ways to them, and the network around the node."""

from __future__ import annotations

from node.api.shapes import Answer, OptionalText, Request, Selector


class PoliciesOf(Request):
    """`person` empty: the one for everybody, and those of persons."""

    person: OptionalText = ""


class SetPolicy(Request):
    """`person` empty: for everybody. `policy` empty: as for everybody."""

    person: OptionalText
    policy: OptionalText


class Ping(Request):
    """A person, device or relay."""

    target: Selector


class DhtLookup(Request):
    """A person or device. `token` stands in the events of this lookup, as `lookup`."""

    target: Selector
    token: OptionalText = ""


class Peer(Answer):
    device: str
    identity: str | None
    name: str
    addresses: list[str]
    source: str
    connected: bool
    path: str | None
    rtt_ms: float | None
    key_exchange: str | None
    kind: str | None = None  # of the path in use: lan, public or punched


class Path(Answer):
    """One way to a device: `source` who told it, `tried` what happened then (null: not tried)."""

    device: str
    address: str
    kind: str
    source: str
    age_s: float | None
    tried: str | None
    tried_s: float | None
    in_use: bool
    rtt_ms: float | None


class DevicePaths(Answer):
    """All ways to a device, best first; `sentence`: which is in use, and why no better one."""

    device: str
    policy: str
    sentence: str
    paths: list[Path]


class Dht(Answer):
    """`server`: others may ask us; else we are a client only. Null: there is no such thing now.

    `published_until`: when the first of our records ends; `kept_by` how many nodes.
    """

    on: bool
    server: bool
    contacts: int
    askers: int
    values_kept: int
    visibility: str
    published_until: str | None
    kept_by: int


class Policy(Answer):
    """`identity` null: for everybody who has none of their own."""

    identity: str | None
    name: str
    policy: str


class Network(Answer):
    """What is around the node. IPv4: `agree` of `observers` networks see us at `address`; of
    `tested` networks that were asked to dial us back `filtering` says what came in. Both in the
    words of RFC 4787: `mapping` none, endpoint-independent, address-dependent or unknown;
    `filtering` endpoint-independent, address-dependent, address-and-port-dependent or unknown.

    `port_mapping`: off, asking, mapped, no-gateway, no-answer or refused (`reason`). `hosts` are
    this machine's own. `answered`: hosts on the Internet that we hear; `relays`: ours there.
    """

    listen: str
    address: str | None
    observers: int
    agree: int
    tested: int
    mapping: str
    filtering: str
    port_mapping: str
    mapped: str | None
    mapped_by: str | None
    reason: str
    hosts: list[str]
    answered: int
    relays: int
    lan_peers: int | None


class Pong(Answer):
    device: str
    rtt_ms: float
    path: str
