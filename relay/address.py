"""Where nodes reach this relay: as it says when it starts, and as is known beside it."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import Final

from discovery.hosts import kind_of, parse_host
from relay.config import RelayConfig
from relay.keys import known_device
from relay.store.opening import driver
from relay.store.processes import Process
from schemas.addresses import Address, AddressKind, RelayAddress
from schemas.errors import Fault, Refused
from storage.files import write_private_file

log = logging.getLogger(__name__)

_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
SET_ADVERTISE: Final = "set advertise to HOST:PORT as nodes reach it, also if that is this one"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What nodes are given, and the processes that share its PostgreSQL, those alive first."""

    address: RelayAddress
    processes: tuple[Process, ...] = ()


def reachable_at(config: RelayConfig, listen: Address) -> Address:
    """Where nodes reach what is bound to `listen`, as far as this machine knows."""
    return config.advertise or Address(_reachable_host(listen.host), listen.port)


def is_local_guess(config: RelayConfig, here: Address) -> bool:
    """Nobody said that nodes reach it `here`, and those elsewhere cannot: it is an address of a
    private network, or of a container."""
    guessed = config.advertise is None and config.listen.host in _WILDCARDS
    ip = parse_host(here.host)
    return guessed and ip is not None and kind_of(ip) is AddressKind.LAN


def remember_address(config: RelayConfig, address: RelayAddress) -> None:
    """For commands beside the relay, and for people; a full disk keeps no relay from starting."""
    if _remembered(config) == address:
        return
    try:
        write_private_file(config.address_file, f"{address}\n".encode())
    except Fault as fault:
        log.warning("the address of this relay is not in its folder: %s", fault)


def whereabouts(config: RelayConfig) -> Whereabouts:
    """From the data folder or the database, else as its key and the settings have it.

    Raises Fault `no-file`, `no-database`, and as `known_device` does.
    """
    if config.database_url is not None:
        with driver():
            from relay.store.postgres.inspection import members
        found = members(config.database_url)
        here = [each.address for each in found.processes if each.live]
        address = RelayAddress(reachable_at(config, config.listen), found.device.public)
        return Whereabouts(address.at(here) if here else address, found.processes)
    remembered = _remembered(config)
    if remembered is not None:
        return Whereabouts(remembered)
    device = known_device(config).public
    return Whereabouts(RelayAddress(reachable_at(config, config.listen), device))


def _remembered(config: RelayConfig) -> RelayAddress | None:
    try:
        return RelayAddress.parse(config.address_file.read_text(errors="replace"))
    except (OSError, Refused):
        return None


def _reachable_host(bound: str) -> str:
    """`bound`, or for a wildcard the address of this machine that packets leave from."""
    if bound not in _WILDCARDS:
        return bound
    # Connecting a UDP socket sends nothing; it only asks the routing table. The two addresses are
    # reserved for documentation.
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((far, 9))
                return str(sock.getsockname()[0])
            except OSError:
                continue
    return "127.0.0.1"
