"""Port mappings: the router in front of us is asked to forward our port (PCP, NAT-PMP, UPnP)."""

from .mapper import PortMapper
from .values import Mapped, MappingLimits, MappingProtocol, NotMapped, Outcome

__all__ = ["Mapped", "MappingLimits", "MappingProtocol", "NotMapped", "Outcome", "PortMapper"]
