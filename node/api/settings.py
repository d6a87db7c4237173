"""What a node is run with, in plain values that need no import of the node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.visibility import DhtVisibility, LanVisibility


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """`listen` None: a command's own node, on any free port.

    `relays` and `bootstrap` None: as remembered. `passphrase` is asked when this process is to open
    an encrypted home.
    """

    home: Path
    listen: str | None = None
    relays: tuple[str, ...] | None = None
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] | None = None
    lan_visibility: LanVisibility = LanVisibility.EVERYONE
    dht: bool = True
    dht_visibility: DhtVisibility = DhtVisibility.PRIVATE
    bootstrap: tuple[str, ...] | None = None
    port_mapping: bool = True
    post_quantum_only: bool = False
    passphrase: Callable[[], bytes | None] = lambda: None
