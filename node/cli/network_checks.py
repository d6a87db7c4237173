"""What `doctor` says of the network: the kind of NAT, who can reach us directly, what would help.

Most findings are no failures: behind an ordinary NAT everything works, by a meeting or a relay.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from telemetry.checks import Check

if TYPE_CHECKING:
    from node.api.network_shapes import Dht, Network

_FORWARD: Final = (
    "to be reached by everybody: turn on PCP, NAT-PMP or UPnP in the router, or have it forward "
    "UDP port {port} to this machine"
)
_ASK: Final = (
    "to be reached by everybody: run with --port-mapping, or have the router forward UDP port "
    "{port} to this machine"
)
_MORE_EYES: Final = (
    "run with --relay or --bootstrap: whom this node asks tells it how they see it, and two in "
    "different networks tell the kind of NAT"
)
_SECOND: Final = (
    "forward UDP port {port} in the outer router, too, or make the inner one a bridge; if the "
    "outer one is your provider's, ask for a public IPv4 address, or use IPv6"
)


def network_checks(found: Network, dht: Dht, *, lasting: bool = True) -> Iterator[Check]:
    """One after the other, from the Internet down to the LAN.

    Not `lasting`: a node of this command's own, with a port of its own and seconds to live.
    """
    yield _address(found)
    if lasting:
        yield _nat(found)
        yield _port_mapping(found)
    else:
        fix = "`run` the node, and ask again a little later"
        yield Check("nat", True, "its kind shows while the node runs", fix)
    yield _udp(found)
    yield _dht(dht)
    yield _mdns(found)


def _address(found: Network) -> Check:
    if found.address is None:
        return Check(
            "address", True, "nobody beyond your network has said where you are", _MORE_EYES
        )
    counted = f"{found.agree} of {found.observers} networks see you there"
    return Check("address", True, f"{found.address}: {counted}")


# --- the NAT

_SYMMETRIC_REACH: Final = "only those reach you directly whose own port is open; others by relay"
_KINDS: Final = {
    # (mapping, filtering): what it is, and who reaches us directly.
    ("none", "endpoint-independent"): ("no NAT and no firewall", "everybody reaches you directly"),
    ("none", "address-dependent"): (
        "no NAT; hosts that you have sent to come in, or everybody",
        "whom you know reaches you directly, and perhaps everybody",
    ),
    ("none", "address-and-port-dependent"): (
        "no NAT, but a firewall that lets in only answers",
        "whoever is brought together with you reaches you directly, strangers do not",
    ),
    ("none", "unknown"): ("no NAT", "whether a firewall keeps others out is not known yet"),
    ("endpoint-independent", "endpoint-independent"): (
        "a NAT that lets everybody in, or a port that is forwarded",
        "everybody reaches you directly",
    ),
    ("endpoint-independent", "address-dependent"): (
        "a NAT that lets in hosts that you have sent to, or everybody",
        "whoever is brought together with you reaches you directly, and perhaps everybody",
    ),
    ("endpoint-independent", "address-and-port-dependent"): (
        "a port-restricted NAT, which lets in only answers",
        "whoever is brought together with you reaches you directly, unless behind a symmetric NAT",
    ),
    ("endpoint-independent", "unknown"): (
        "a NAT; whom it lets in is not known yet",
        "whoever is brought together with you reaches you directly, unless behind a symmetric NAT",
    ),
}  # fmt: skip


def _nat(found: Network) -> Check:
    if found.mapping == "unknown":
        return _unknown_nat(found)
    words = f"{found.mapping} mapping, {found.filtering} filtering"
    if found.mapping == "address-dependent":
        what, reach = "a symmetric NAT, with another port for each peer", _SYMMETRIC_REACH
    else:
        what, reach = _KINDS[found.mapping, found.filtering]
    return Check("nat", True, f"{what} ({words}): {reach}", _nat_fix(found))


def _unknown_nat(found: Network) -> Check:
    if found.filtering == "endpoint-independent":
        return Check("nat", True, "of unknown kind, but it lets everybody in")
    private = found.hosts and not any(_is_global(host) for host in found.hosts)
    what = "a NAT, since this machine has no address on the Internet" if private else "not known"
    if found.observers > 1:
        why = f"the {found.observers} networks that see you do not agree"
    else:
        why = f"its kind shows when two networks see you; {found.observers} so far"
    return Check("nat", True, f"{what}; {why}", "" if found.observers > 1 else _MORE_EYES)


def _nat_fix(found: Network) -> str:
    if found.filtering == "endpoint-independent":
        return ""
    port = _port(found.listen)
    if found.mapping == "none":
        if found.filtering == "address-and-port-dependent":
            return f"to be reached by everybody: let UDP port {port} through the firewall"
        return ""
    if found.port_mapping == "mapped":
        return ""  # what is wrong with that stands there
    off = found.port_mapping == "off"
    help_with = [(_ASK if off else _FORWARD).format(port=port)]
    if any(":" in host and _is_global(host) for host in found.hosts):
        if ":" not in _host(found.listen):
            help_with.append(f"or `run --listen [::]:{port}`: this machine has IPv6")
    elif found.mapping == "address-dependent":
        help_with.append("or use IPv6")
    if found.mapping == "address-dependent" and not found.relays:
        help_with.append("until then a relay (--relay) carries what cannot go directly")
    return "; ".join(help_with)


# --- the rest


def _port_mapping(found: Network) -> Check:
    name, port = "port mapping", _port(found.listen)
    if found.port_mapping == "mapped" and found.mapped is not None:
        told = f"your router forwards {found.mapped} to this node ({found.mapped_by})"
        if not _is_global(_host(found.mapped)):
            told += ", which is itself behind a NAT: a second router, or your provider's"
            return Check(name, True, told, _SECOND.format(port=port))
        if found.address is not None and _host(found.address) != _host(found.mapped):
            told += f", but others see you at {_host(found.address)}: there is a second NAT"
            return Check(name, True, told, _SECOND.format(port=port))
        return Check(name, True, told)
    said = {
        "off": "off: the router is asked for nothing",
        "asking": "the router is being asked",
        "no-gateway": "no router with a private address is in front of this machine",
        "no-answer": "the router speaks none of PCP, NAT-PMP and UPnP",
    }.get(found.port_mapping, f"the router declines ({found.reason})")
    # Where the kind of NAT is known, what would help stands there.
    helps = found.mapping == "unknown" and found.port_mapping in ("no-answer", "refused")
    return Check(name, True, said, _FORWARD.format(port=port) if helps else "")


def _udp(found: Network) -> Check:
    if found.answered:
        hosts = f"{found.answered} host{'s' if found.answered > 1 else ''} on the Internet"
        return Check("udp", True, f"{hosts} answer")
    if found.relays:
        return Check(
            "udp",
            False,
            f"none of your {found.relays} relays on the Internet answers over UDP",
            "if other programs are online, this network blocks UDP: allow UDP out to the relays' "
            "ports, or use another network; until then messages wait, or `export-parcels`",
        )
    return Check("udp", True, "nobody on the Internet has been asked yet")


def _dht(dht: Dht) -> Check:
    if not dht.on:
        return Check("dht", True, "off: contacts find you by LAN, relay or their last address")
    if not dht.contacts:
        fix = "run --bootstrap HOST:PORT, or --relay: any node of the DHT is a way in"
        return Check("dht", True, "no node of it is known", fix)
    part = "server, others ask it" if dht.server else "client only, since others do not reach it"
    told = f"{dht.contacts} nodes known; {part}; {dht.values_kept} records kept for others"
    if dht.visibility == "off":
        told += "; where you are is not published"
    elif dht.published_until is None:
        told += "; where you are is not published yet"
    else:
        told += f"; {dht.kept_by} nodes keep where you are until {dht.published_until}"
    return Check("dht", True, told)


def _mdns(found: Network) -> Check:
    if found.lan_peers is None:
        return Check("mdns", True, "off: nobody on the LAN finds you by it")
    count = f"{found.lan_peers} device{'' if found.lan_peers == 1 else 's'}"
    return Check("mdns", True, f"on; {count} of others on this LAN")


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _port(listen: str) -> str:
    return listen.rpartition(":")[2]


def _is_global(host: str) -> bool:
    return ip_address(host).is_global
