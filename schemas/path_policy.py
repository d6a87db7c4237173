"""By which paths a person may be reached: what the user chose."""

from __future__ import annotations

from enum import StrEnum


class PathPolicy(StrEnum):
    """AUTO takes the best path there is; each other one gives something up for something."""

    AUTO = "auto"
    DIRECT_ONLY = "direct-only"  # no relay carries anything
    RELAY_ONLY = "relay-only"  # our address stays hidden from the peer
    LAN_ONLY = "lan-only"  # only on networks that this machine is on
    POST_QUANTUM_ONLY = "post-quantum-only"  # only connections with X25519MLKEM768

    @property
    def by_relay(self) -> bool:
        return self not in (PathPolicy.DIRECT_ONLY, PathPolicy.LAN_ONLY)

    @property
    def hides_address(self) -> bool:
        return self is PathPolicy.RELAY_ONLY
