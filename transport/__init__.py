"""One-socket QUIC with mutual identity: endpoint, connections, streams, frames, Cap'n Proto RPC.

Knows device keys and bytes; never what a message means. What it promises: a Connection that anybody
gets to see has a proven peer; a dialled one is the pinned device; every wait for a peer has a
deadline; every buffer a bound; everything dropped is counted by reason in `Endpoint.counters`.
"""

from schemas.addresses import Address

from .anonymous import AnonymousEndpoint
from .connection import Connection
from .endpoint import Endpoint
from .errors import CloseCode, CloseReason, ConnectionLost, EndedBy, StreamCode, StreamReset
from .frames import FrameStream, read_frame, write_frame
from .limits import DEFAULT_LIMITS, TransportLimits
from .probe import Prober
from .rpc import RpcClient, RpcService, RpcSession, connect_rpc, kj_loop, serve_rpc
from .serving import Handler
from .stream import Stream

__all__ = [
    "DEFAULT_LIMITS",
    "Address",
    "AnonymousEndpoint",
    "CloseCode",
    "CloseReason",
    "Connection",
    "ConnectionLost",
    "EndedBy",
    "Endpoint",
    "FrameStream",
    "Handler",
    "Prober",
    "RpcClient",
    "RpcService",
    "RpcSession",
    "Stream",
    "StreamCode",
    "StreamReset",
    "TransportLimits",
    "connect_rpc",
    "kj_loop",
    "read_frame",
    "serve_rpc",
    "write_frame",
]
