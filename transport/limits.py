"""Every limit of the transport, named, with the reason beside it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.limits import KIB, MIB, NESTING


@dataclass(frozen=True)
class TransportLimits:
    """Limits of one Endpoint. Times in seconds, sizes in bytes."""

    # Time
    handshake_deadline_s: float = 5.0  # aioquic alone keeps half-open state for the idle timeout
    idle_timeout_s: float = 30.0  # a peer that vanished is noticed by then, whatever else fails
    keep_alive_s: float = 10.0  # a third of the idle timeout: two lost pings do not end a link
    ping_deadline_s: float = 1.0  # loss is seen at 1.02 s; ten times a bad round trip
    dial_stagger_s: float = 0.15  # three dead candidates cost 0.45 s, a live LAN answers before
    dial_deadline_s: float = 5.0  # ICMP is not seen on this socket: a dead address is silence
    close_grace_s: float = 1.0  # handlers may end on their own for so long, then are cancelled
    ack_deadline_s: float = 30.0  # a peer that speaks and never acknowledges holds our buffers
    stream_deadline_s: float = 30.0  # waiting for the peer to allow one more stream

    # Number
    max_connections: int = 1_000  # accepted; each can hold `connection_buffer` twice
    max_half_open: int = 256  # unproven peers; each costs 90 KiB and 1 ms of CPU
    max_half_open_per_prefix: int = 64  # of these, with a proven address: /24 (IPv4), /56 (IPv6)
    retry_from_half_open: int = 16  # then an address is proven first: 20 µs, and no state
    first_packets_per_s: float = 64.0  # of unproven addresses that get cryptography; then Retry
    resets_per_s: float = 1_000.0  # stateless resets sent; each is shorter than what it answers
    max_candidates: int = 16  # addresses tried by one dial: two records of eight
    max_streams: int = 64  # opened by the peer at once; aioquic visits each for each packet
    accept_queue: int = 64  # opened by the peer, not yet accepted; one datagram can open them all
    datagrams_per_wake: int = 64  # then other tasks run; twice the throughput of one at a time

    # Memory
    stream_buffer: int = 1 * MIB  # unread, and separately unacknowledged: one largest frame
    connection_buffer: int = 4 * MIB  # the same, over all streams of a connection
    socket_buffer: int = 4 * MIB  # the kernel's; a burst must outlive one slow event-loop turn
    reassembly_ranges: int = 256  # gaps in one stream; aioquic's work grows with their square
    sent_records: int = 2_048  # packets of bare ACKs remembered; nobody acknowledges them
    connection_ids: int = 4  # at once, of either side: three moves before one is replaced
    peer_connection_ids: int = 256  # that a peer issued and did not retire; one per migration

    # Path MTU (RFC 8899)
    datagram: int = 1_200  # what every path carries (RFC 9000, 14.1)
    largest_datagram: int = 16_383  # a packet's length field has two bytes; 32,768 stalls
    mtu_search_from: int = 32 * KIB  # sent: a question to a stranger costs less than its probes
    mtu_probe_s: float = 1.0  # at least, until a probe that nothing overtook counts as lost
    mtu_probe_tries: int = 3  # loss has other causes, too (RFC 8899, 5.1.2: MAX_PROBES)
    mtu_again_s: float = 600.0  # then the path may have grown (RFC 8899: PMTU_RAISE_TIMER)

    # Cap'n Proto RPC
    rpc_message: int = 1 * MIB  # two parcels; a larger message is refused before it is read
    rpc_message_deadline_s: float = 30.0  # from its first bytes to its last: nobody waits longer
    rpc_nesting: int = NESTING
    rpc_calls_in_flight: int = 64  # Cap'n Proto has no flow limit of its own
    rpc_call_bytes: int = 8 * MIB  # of these calls' parameters: they stay until the answer
    rpc_questions_per_call: int = 4  # of those in flight: not yet answered and finished, either way
    rpc_capabilities: int = 8  # in one message; this protocol needs one
    rpc_exports: int = 64  # objects of ours that one peer may call: a sink per mailbox, and room
    rpc_call_deadline_s: float = 30.0  # nobody waits for a peer without one
    rpc_write_buffer: int = 256 * KIB  # above: Cap'n Proto is told to stop writing


DEFAULT_LIMITS = TransportLimits()
