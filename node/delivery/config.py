"""With what delivery is run."""

from __future__ import annotations

from dataclasses import dataclass

from discovery.scope import NetworksNow, networks_now
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS, DeliveryLimits
from schemas.addresses import Address
from schemas.visibility import DhtVisibility, LanVisibility
from transport import DEFAULT_LIMITS, TransportLimits
from transport.udp import Bind


@dataclass(frozen=True, slots=True)
class DeliveryConfig:
    """`listen` None: any free port, not published and not advertised.

    `mdns` False is as `lan_visibility` off.
    """

    listen: Address | None = None
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] | None = None
    limits: DeliveryLimits = DEFAULT_DELIVERY_LIMITS
    transport_limits: TransportLimits = DEFAULT_LIMITS
    post_quantum_only: bool = False
    bind: Bind | None = None  # as Endpoint.open's
    lan_visibility: LanVisibility = LanVisibility.EVERYONE
    networks: NetworksNow = networks_now
    port_mapping: bool = False
    dht: bool = False
    dht_visibility: DhtVisibility = DhtVisibility.PRIVATE
