"""Every defence of docs/hazards.md that can be taken out by itself, with the tests that notice."""

from __future__ import annotations

from tests.hazards.account_defences import ACCOUNTS
from tests.hazards.blob_defences import BLOBS, MEMORY
from tests.hazards.by_hand_defences import BY_HAND
from tests.hazards.capnp_defences import CAPNP
from tests.hazards.defence import Defence
from tests.hazards.dht_defences import DHT
from tests.hazards.dht_quic_defences import DHT_QUIC
from tests.hazards.meeting_defences import MEETINGS
from tests.hazards.node_defences import DISCOVERY, NODE
from tests.hazards.operations_defences import OPERATIONS
from tests.hazards.path_defences import PATHS
from tests.hazards.port_mapping_defences import PORT_MAPPING
from tests.hazards.relay_defences import RELAY, STORAGE
from tests.hazards.rpc_defences import RPC_TABLES
from tests.hazards.sealed_defences import SEALED
from tests.hazards.statement_defences import STATEMENTS
from tests.hazards.transport_defences import TRANSPORT

DEFENCES: tuple[Defence, ...] = (
    TRANSPORT
    + CAPNP
    + RPC_TABLES
    + RELAY
    + SEALED
    + ACCOUNTS
    + STATEMENTS
    + BLOBS
    + MEMORY
    + NODE
    + BY_HAND
    + PATHS
    + MEETINGS
    + PORT_MAPPING
    + DISCOVERY
    + DHT
    + DHT_QUIC
    + OPERATIONS
    + STORAGE
)
