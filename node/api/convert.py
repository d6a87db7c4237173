"""The engine's and the node's values in the shapes of the control API."""

from __future__ import annotations

from msgspec import UNSET

from node.api import network_shapes as ns
from node.api import relay_shapes as rs
from node.api import shapes as s
from node.by_hand import Exported, Imported
from node.delivery.dht import DhtStatus
from node.delivery.paths import DevicePaths, PathView
from node.engine import values as v
from node.views import (
    FetchedKeyView,
    HealthView,
    KeyHoldingView,
    NetworkView,
    PeerLinkView,
    PingView,
    RegisterView,
)
from schemas import times
from schemas.errors import Refused
from schemas.ids import Id, IdentityKey
from schemas.path_policy import PathPolicy
from schemas.visibility import DhtVisibility
from telemetry.checks import Check
from transport.port_mapping import Mapped, NotMapped

SUITES = {"classic": 1, "hybrid": 65100}


def utc(seconds: float) -> str:
    """Unix seconds as UTC in ISO-8601, to the millisecond."""
    text = times.utc(seconds).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _or_none(value: Id | None) -> str | None:
    return None if value is None else value.hex()


def _hex(values: tuple[Id, ...]) -> list[str]:
    return [value.hex() for value in values]


def account(view: v.AccountView) -> s.Account:
    return s.Account(
        identity=view.identity.hex(),
        device=view.device.hex(),
        name=view.name,
        card=view.card,
        relays=list(view.relays),
        addresses=list(view.addresses),
        safety_number=view.safety_number,
    )


def contact(view: v.ContactView) -> s.Contact:
    devices = _hex(view.devices)
    return s.Contact(
        identity=view.identity.hex(),
        device=devices[0] if devices else None,
        devices=devices,
        name=view.name,
        verified=view.verified,
        safety_number=view.safety_number,
        reachable=view.reachable,
    )


def blocked(view: v.BlockedView) -> s.Blocked:
    return s.Blocked(identity=view.identity.hex(), name=view.name, since=utc(view.since))


def group(view: v.GroupView) -> s.Group:
    return s.Group(
        group=view.group.hex(),
        name=view.name,
        kind=view.kind,
        epoch=view.epoch,
        suite=view.suite,
        status=str(view.status),
        accepted=view.accepted,
        inviter=_or_none(view.inviter),
        members=[
            s.Member(
                identity=member.identity.hex(),
                devices=_hex(member.devices),
                name=member.name,
                role=member.role,
                epoch=UNSET if member.standing is None else member.epoch,
                standing=UNSET if member.standing is None else str(member.standing),
            )
            for member in view.members
        ],
    )


def examined(check: Check) -> s.Examined:
    return s.Examined(check.name, check.ok, check.detail, check.fix)


def invitation(view: v.RequestView) -> s.Invitation:
    return s.Invitation(
        group=view.group.hex(),
        inviter=view.inviter.hex(),
        identity=view.inviter.hex(),
        name=view.group_name or view.inviter_name,
        kind=view.kind,
        inviter_name=view.inviter_name,
        inviter_is_contact=view.inviter_is_contact,
    )


def sent(view: v.SentView) -> s.Sent:
    return s.Sent(message=view.message.hex(), group=view.group.hex(), status=view.status)


def message(view: v.MessageView) -> s.Message:
    return s.Message(
        message=view.message.hex(),
        group=view.group.hex(),
        sender=view.sender.hex(),
        text=view.text,
        sent_at=utc(view.sent_at),
        received_at=utc(view.received_at),
        path=view.path,
        sender_name=view.sender_name,
        group_name=view.group_name,
        device=view.sender_device.hex(),
        arrival=view.arrival,
        own=view.own,
    )


def ledger_row(view: v.LedgerView) -> s.LedgerRow:
    return s.LedgerRow(
        identity=view.identity.hex(),
        device=view.device.hex(),
        state=str(view.state),
        path=view.path,
        relay=view.relay,
        held_until=None if view.held_until is None else utc(view.held_until),
        updated_at=utc(view.updated_at),
        reason=view.reason,
        name=view.name,
        by=None if view.by is None else view.by.hex(),
        by_name=view.by_name,
    )


def why_row(view: v.WhyView) -> s.WhyRow:
    return s.WhyRow(
        identity=view.identity.hex(),
        device=view.device.hex(),
        sentence=view.sentence,
        action=view.action,
        name=view.name,
        state=view.state,
    )


def pong(view: PingView) -> ns.Pong:
    return ns.Pong(device=view.device.hex(), rtt_ms=round(view.rtt_ms, 3), path=view.path)


def health(view: HealthView) -> rs.Health:
    return rs.Health(
        status=view.status,
        version=view.version,
        relay=view.relay,
        uptime_s=view.uptime_s,
        reason=view.reason,
        clock_skew_s=None if view.clock_skew_s is None else round(view.clock_skew_s, 3),
        refused_since=None if view.refused_since is None else utc(view.refused_since),
    )


def registered(view: RegisterView) -> s.Registered:
    return s.Registered(
        device=view.device.hex(),
        fingerprint=view.fingerprint,
        relay=view.relay,
        suite=view.suite,
        stock=view.stock,
    )


def fetched_key(view: FetchedKeyView) -> s.FetchedKey:
    return s.FetchedKey(
        identity=view.identity.hex(),
        device=view.device.hex(),
        fingerprint=view.fingerprint,
        relay=view.relay,
        suite=view.suite,
        last_resort=view.last_resort,
    )


def key_holding(view: KeyHoldingView) -> s.KeyHolding:
    return s.KeyHolding(
        identity=view.identity.hex(),
        device=view.device.hex(),
        relay=view.relay,
        bundle_number=view.bundle_number,
        hybrid_key=view.hybrid_key,
        endpoint=view.endpoint,
    )


def peer(view: PeerLinkView) -> ns.Peer:
    return ns.Peer(
        device=view.device.hex(),
        identity=_or_none(view.identity),
        name=view.name,
        addresses=list(view.addresses),
        source=view.source,
        connected=view.connected,
        path=view.path,
        rtt_ms=_rounded(view.rtt_ms),
        key_exchange=view.key_exchange,
        kind=view.kind,
    )


def device_paths(view: DevicePaths) -> ns.DevicePaths:
    return ns.DevicePaths(
        device=view.device.hex(),
        policy=view.policy.value,
        sentence=view.sentence,
        paths=[path(each) for each in view.paths],
    )


def path(view: PathView) -> ns.Path:
    return ns.Path(
        device=view.device.hex(),
        address=view.address,
        kind=view.kind,
        source=view.source,
        age_s=_rounded(view.age_s),
        tried=view.tried,
        tried_s=_rounded(view.tried_s),
        in_use=view.in_use,
        rtt_ms=_rounded(view.rtt_ms),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def dht(view: DhtStatus | None) -> ns.Dht:
    if view is None:
        return ns.Dht(False, False, 0, 0, 0, DhtVisibility.OFF.value, None, 0)
    return ns.Dht(
        on=True,
        server=view.server,
        contacts=view.contacts,
        askers=view.askers,
        values_kept=view.values_kept,
        visibility=view.visibility.value,
        published_until=None if view.published_until is None else utc(view.published_until),
        kept_by=view.kept_by,
    )


def policy(view: v.PolicyView) -> ns.Policy:
    return ns.Policy(identity=_or_none(view.identity), name=view.name, policy=view.policy.value)


def _named(people: list[tuple[IdentityKey, str]]) -> list[s.Named]:
    return [s.Named(identity=identity.hex(), name=name) for identity, name in people]


def exported(file: str, done: Exported) -> s.ExportedParcels:
    return s.ExportedParcels(
        file=file,
        parcels=done.parcels,
        bytes=done.bytes,
        keyless=done.keyless,
        recipients=_named(done.recipients),
        introduces=done.introduces,
    )


def imported(file: str, done: Imported) -> s.ImportedParcels:
    return s.ImportedParcels(
        file=file,
        parcels=done.parcels,
        bytes=done.bytes,
        new=done.new,
        known=done.known,
        others=done.others,
        later=done.later,
        refused=dict(done.refused),
        introduced=_named(done.introduced),
        strangers=done.strangers,
    )


def path_policy(text: str) -> PathPolicy | None:
    """None for no text. Raises Refused `unknown-policy`."""
    try:
        return PathPolicy(text) if text else None
    except ValueError:
        raise Refused(
            "unknown-policy", f"no policy {text[:40]!r}", hint=f"one of {', '.join(PathPolicy)}"
        ) from None


def network(view: NetworkView) -> ns.Network:
    nat, outcome = view.nat, view.outcome
    mapped = outcome if isinstance(outcome, Mapped) else None
    refusal = outcome if isinstance(outcome, NotMapped) else None
    return ns.Network(
        listen=str(view.listen),
        address=None if nat.seen is None else str(nat.seen),
        observers=nat.observers,
        agree=nat.agree,
        tested=nat.tested,
        mapping=nat.mapping.value,
        filtering=nat.filtering.value,
        port_mapping=_port_mapping(view),
        mapped=None if mapped is None else str(mapped.external),
        mapped_by=None if mapped is None else mapped.protocol.value,
        reason="" if refusal is None else refusal.detail,
        hosts=list(view.hosts),
        answered=view.answered,
        relays=view.relays,
        lan_peers=view.lan_peers,
    )


def _port_mapping(view: NetworkView) -> str:
    if not view.asks_router:
        return "off"
    if view.outcome is None:
        return "asking"
    return "mapped" if isinstance(view.outcome, Mapped) else view.outcome.code
