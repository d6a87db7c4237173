"""Every number of the DHT, with its reason; measured by `quicnprotochat-simulate run dht-churn`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DhtLimits:
    """Times in seconds, sizes in bytes unless the name says other."""

    # Routing table
    bucket: int = 16  # k: with a median session of half an hour some of 16 always live
    per_prefix: int = 2  # of one /24 or /56: in a bucket, in a lookup's shortlist, in a cell
    replacements: int = 16  # who waits for a place in a bucket
    newcomers: int = 64  # who announced themselves and were not asked yet
    failures: int = 2  # unanswered in a row, until a contact goes: one may be a lost packet
    proven_s: float = 180.0  # it answers after that too: NATs forget who was dialled within 120

    # Lookups
    paths: int = 3  # disjoint: a liar is on one of them
    path_width: int = 8  # a path ends when its nearest so many have answered
    in_flight: int = 2  # requests of one path at once
    answer_contacts: int = 16  # told for one request: more than keep a value, or all tell the same
    rpc_s: float = 3.0  # a handshake and a request on a bad mobile network
    slow_s: float = 0.6  # after which the path asks somebody else besides
    lookup_messages: int = 96  # in all: whoever tells of ever nearer nodes is left here
    lookup_s: float = 20.0  # in all
    shortlist: int = 64  # contacts that one path remembers

    # Values
    store_width: int = 10  # nodes that keep a value: half are gone before it is put again
    cell_values: int = 4  # under one private key, by different signers
    values: int = 4096  # kept for others: about 8 MB
    values_per_prefix: int = 256  # put from one prefix: nobody fills the whole of it
    values_per_region: int = 1024  # put from one /16 or /32: whoever owns an IPv6 /48 has 256 /56
    republish_s: float = 1200.0  # against churn: see store_width
    current_s: float = 1500.0  # older values of others were not put again: a newer one may exist
    before_midnight_s: float = 3 * 3600.0  # when tomorrow's cell is filled too
    around_midnight_s: float = 3600.0  # when readers look into the neighbouring day's cell

    # Maintenance
    round_s: float = 60.0  # between two rounds of what follows
    stale_s: float = 900.0  # a contact that did not answer us for that long is asked
    seeds: int = 64  # remembered of those that we began with: the table of last time, and relays
    checks: int = 3  # stale contacts asked in one round
    greeted_at_once: int = 4  # newcomers, stale contacts and seeds asked at the same time
    refresh_s: float = 3600.0  # a bucket that no lookup touched for that long is looked up
    own_refresh_s: float = 1800.0  # our neighbourhood, though newcomers announce themselves to it

    def __post_init__(self) -> None:
        if self.store_width > self.paths * self.path_width:
            raise ValueError("a lookup finds fewer contacts than a value is stored with")


DEFAULT_DHT_LIMITS = DhtLimits()
