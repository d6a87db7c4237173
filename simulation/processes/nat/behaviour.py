"""How routers treat UDP, in the words of RFC 4787, and the nftables rules that make one so."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_MAPPED_S: Final = 3600  # longer than any run: what a NAT forgets early is another matter


class Mapping(IntEnum):
    """What the port that others see depends on (RFC 4787, section 4.1); higher is harder."""

    NONE = 0  # nothing is translated
    ENDPOINT_INDEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2  # "symmetric": another port for each peer


class Filtering(IntEnum):
    """Who may answer (RFC 4787, section 5); higher is harder."""

    NONE = 0  # everybody may send, even first
    ENDPOINT_INDEPENDENT = 1  # everybody, once the host has sent anything
    ADDRESS_DEPENDENT = 2  # any port of an address that the host has sent to
    ADDRESS_AND_PORT_DEPENDENT = 3  # exactly where the host has sent to


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Of one router, or of several in a row."""

    mapping: Mapping
    filtering: Filtering


FULL_CONE: Final = Behaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
ADDRESS_RESTRICTED: Final = Behaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
PORT_RESTRICTED: Final = Behaviour(
    Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT
)
SYMMETRIC: Final = Behaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT
)
FIREWALL: Final = Behaviour(Mapping.NONE, Filtering.ADDRESS_AND_PORT_DEPENDENT)


def in_a_row(behaviours: Collection[Behaviour]) -> Behaviour:
    """How several routers behave together: as the strictest of them in each respect."""
    return Behaviour(
        max((each.mapping for each in behaviours), default=Mapping.NONE),
        max((each.filtering for each in behaviours), default=Filtering.NONE),
    )


def rules(behaviour: Behaviour, wan: str, peers: Collection[str] = ()) -> str:
    """An nftables ruleset for a router whose interface to the outside is `wan`.

    `peers`: the only addresses that UDP may go to; empty: all. Raises ValueError when there are
    no rules for such a behaviour.
    """
    allowed = f'oifname "{wan}" ip daddr != {{ {", ".join(peers)} }} drop;' if peers else ""
    # Whatever nobody asked for is dropped before it leaves a trace in conntrack, as home routers
    # do: a packet that the router itself took would occupy the port that the answer needs.
    return f"""
        flush ruleset
        table ip filter {{
            chain input {{
                type filter hook input priority filter;
                iifname "{wan}" ct state established,related accept;
                iifname "{wan}" meta l4proto udp drop;
            }}
            chain forward {{
                type filter hook forward priority filter;
                {allowed}
                iifname "{wan}" ct state established,related accept;
                iifname "{wan}" ct status dnat accept;
                iifname "{wan}" drop;
            }}
        }}
        {_translation(behaviour, wan)}
    """


def _translation(behaviour: Behaviour, wan: str) -> str:
    if behaviour == FIREWALL:
        return ""
    if behaviour in (PORT_RESTRICTED, SYMMETRIC):
        # Linux keeps the port while it can (endpoint-independent), unless told not to.
        how = "fully-random" if behaviour == SYMMETRIC else ""
        return f"""
            table ip nat {{
                chain out {{
                    type nat hook postrouting priority srcnat;
                    oifname "{wan}" masquerade {how};
                }}
            }}
        """
    if behaviour == FULL_CONE:
        asked = ""
    elif behaviour == ADDRESS_RESTRICTED:
        asked = "udp dport . ip saddr @asked"
    else:
        raise ValueError(f"no rules for {behaviour}")
    return f"""
        table ip nat {{
            map mapped {{
                type inet_service : ipv4_addr . inet_service; flags timeout;
                timeout {_MAPPED_S}s; size 65535;
            }}
            set asked {{
                type inet_service . ipv4_addr; flags dynamic,timeout;
                timeout {_MAPPED_S}s; size 65535;
            }}
            chain note {{
                type filter hook postrouting priority mangle;
                oifname "{wan}" update @asked {{ udp sport . ip daddr }};
            }}
            chain out {{
                type nat hook postrouting priority srcnat;
                oifname "{wan}" update @mapped {{ udp sport : ip saddr . udp sport }};
                oifname "{wan}" masquerade;
            }}
            chain in {{
                type nat hook prerouting priority dstnat;
                iifname "{wan}" {asked} dnat ip to udp dport map @mapped;
            }}
        }}
    """
