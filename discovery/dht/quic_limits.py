"""Limits of the DHT over QUIC: what we hold open, whom we dial, and what askers may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuicLimits:
    """Times in seconds; rates per second, and `burst` at once."""

    # Our requests
    connections: int = 96  # held by each persona; lookups go back to whom they just asked
    idle_s: float = 15.0  # then one is let go; nobody keeps state for a stranger longer
    dial_s: float = 2.0  # below DhtLimits.rpc_s; a dial to silence is ten datagrams at most
    request_s: float = 2.5  # on a connection that is there
    persona_s: float = 3600.0  # then the client has another key and another port
    retire_s: float = 5.0  # for requests that still run with the old ones

    # Dials to where nobody answered: whoever tells us of a victim gets no flood out of us
    unanswered_rate: float = 8.0  # a quarter of a lookup's contacts are gone, and lookups are rare
    unanswered_burst: float = 96.0  # one lookup that finds nobody
    unanswered_prefix_rate: float = 0.5
    unanswered_prefix_burst: float = 16.0  # an honest answer has at most two of a prefix
    unanswered_address_rate: float = 1 / 30
    unanswered_address_burst: float = 3.0  # both personas, and once more

    # Askers
    accepted: int = 256  # of the transport's connections: the rest is for contacts and links
    accepted_per_prefix: int = 32  # behind one NAT
    accepted_per_device: int = 4
    accepted_idle_s: float = 30.0  # without a request; keep-alives do not count
    streams: int = 8  # requests of one connection at once
    frame_s: float = 5.0  # for a request to arrive, and for an answer to leave
    device_rate: float = 20.0
    device_burst: float = 100.0  # one lookup asks us once
    prefix_rate: float = 80.0
    prefix_burst: float = 400.0
    refusals_borne: int = 50  # requests above these rates; then the connection is closed

    # Dialling back
    dial_back_s: float = 2.0
    dial_back_rate: float = 1.0  # all askers together
    dial_back_burst: float = 8.0
    dial_back_prefix_rate: float = 1 / 60
    dial_back_prefix_burst: float = 4.0


DEFAULT_QUIC_LIMITS = QuicLimits()
