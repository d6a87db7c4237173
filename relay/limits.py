"""Every limit on what callers may use, named, with the reason beside it; all can be configured.

Rates are token buckets: a caller may use `burst` at once and `rate` per second in the long run. A
/24 (IPv4) or /56 (IPv6) counts as one address prefix; loopback is nobody's prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.limits import KIB, MIB

HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Numbers per second, numbers, and bytes."""

    # Calls; each parcel of a batch counts as one
    connection_calls_rate: int = 1_000  # a quarter of what one core serves
    connection_calls_burst: int = 5_000  # a message to a group of 250, twenty times over
    device_calls_rate: int = 1_000  # the same: opening more connections gains nothing
    device_calls_burst: int = 5_000
    prefix_calls_rate: int = 4_000  # an office behind one address
    prefix_calls_burst: int = 20_000

    # Bytes in and out, of parcels
    connection_bytes_rate: int = 8 * MIB
    connection_bytes_burst: int = 64 * MIB  # a whole mailbox
    device_bytes_rate: int = 8 * MIB
    device_bytes_burst: int = 64 * MIB
    prefix_bytes_rate: int = 32 * MIB
    prefix_bytes_burst: int = 256 * MIB

    # Parcels that come with one delivery token, to one mailbox
    token_parcels_rate: int = 20  # a contact, or a whole group of people who are no contacts
    token_parcels_burst: int = 1_000  # what a mailbox holds: an outbox of weeks
    token_bytes_rate: int = 1 * MIB
    token_bytes_burst: int = 64 * MIB

    # Accounts; each login and registration costs some multiplications, and is one guess at most
    prefix_registrations_per_hour: int = 60  # two messages each
    prefix_registrations_burst: int = 60  # people at one table
    prefix_logins_per_hour: int = 120
    prefix_logins_burst: int = 60
    prefix_name_logins_per_hour: int = 20  # guesses of one password from one place
    prefix_name_logins_burst: int = 10
    name_logins_per_hour: int = 240  # and from all places that are new to the account together
    name_logins_burst: int = 120  # twelve places at once; its owner's own are not among them
    pending_logins: int = 2_000  # about 1 KiB each, for 5 minutes
    pending_logins_per_prefix: int = 64
    accounts: int = 100_000
    devices_per_account: int = 8  # as many as a bundle lists

    # Parcels brought to one mailbox, by whomever
    mailbox_parcels_rate: int = 50  # it holds 1,000
    mailbox_parcels_burst: int = 2_000

    # Devices that were not here since the start, per prefix
    newcomers_rate: int = 1
    newcomers_burst: int = 500

    # Meetings (rendezvous); each makes two nodes send to addresses that the other one names
    meetings_rate: int = 1  # whoever comes online asks for each contact that it cannot dial
    meetings_burst: int = 50
    prefix_meetings_rate: int = 10
    prefix_meetings_burst: int = 500
    target_meetings_rate: int = 2  # a node has limits of its own
    target_meetings_burst: int = 50

    # At one time
    connections: int = 6_000  # idle and subscribed, each takes some 80 KiB
    connections_per_prefix: int = 512  # of devices that something is kept for: a village
    anonymous_per_prefix: int = 1_024  # of all others: 16 each for 64 of them who write at once
    connections_per_device: int = 8  # a reconnecting phone leaves some behind until they time out
    waits_per_connection: int = 8  # fetchWait; far below the calls in flight, which they occupy
    streams_per_connection: int = 4
    calls_per_stream: int = 64  # Cap'n Proto has no flow limit of its own
    subscriptions: int = 6_000
    subscriptions_per_connection: int = 4
    subscriptions_per_device: int = 16
    memory_bytes: int = 256 * MIB  # held for callers: see relay/memory.py
    prefix_memory_share: float = 0.125  # of these, for one prefix: 32 calls of the largest kind


PUSH_BYTES = 256 * KIB  # one batch; or one parcel, if that is larger
PUSH_DEADLINE_S = 30.0  # a subscriber answers when it has the batch on disk
PUSH_SLOW_S = 2.0  # a sink that takes longer may be ended when memory is short
MEMORY_WAIT_S = 5.0  # for room in `memory_bytes`; then: busy
MEMORY_RETRY_MS = 1_000
LOOK_AGAIN_S = 5.0  # into a mailbox, when the store did not let; it wakes all when it is back
PUSH_STOP_S = 2.0  # when the relay stops; what is cut off stays in the mailbox
MEETING_DEADLINE_S = 2.0  # for the peer's answer; whoever is not met learns it then, too
LONGEST_WAIT_S = 60.0
DEFAULT_RELAY_LIMITS = RelayLimits()
