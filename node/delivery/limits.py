"""Every limit of delivery, named, with the reason beside it. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.limits import KIB


@dataclass(frozen=True)
class DeliveryLimits:
    """Limits of one node's delivery."""

    # Links
    hello_deadline_s: float = 5.0  # who says nothing after the handshake has nothing to say
    ack_deadline_s: float = 30.0  # above any fsync or MLS operation; then the link is stalled
    doubt_s: float = 0.7  # an unacknowledged parcel makes us ask whether anybody is there
    proof_s: float = 0.8  # who does not answer by then is gone: the relay gets it 1.5 s after all
    ping_deadline_s: float = 2.0
    arrivals_at_once: int = 256  # of one link, in the engine; then it is not read
    arrival_bytes: int = 128 * KIB  # a larger parcel counts as several: 32 MiB of one link
    garbage_burst: int = 100  # parcels of one device that do not open: 0.2 ms of ours each
    garbage_every_s: float = 0.6  # then one each, over its links; the next one ends the link
    links_per_device: int = 4  # two by simultaneous open, and as many left over from a restart
    engine_failed_s: float = 10.0  # on an arrival, as with a full disk: asked for again then
    summaries_at_once: int = 64  # waiting to be written to one link; the next meeting sends anew
    retire_quiet_s: float = 1.0  # the peer learns of the better link within a round trip
    retire_deadline_s: float = 10.0
    flush_s: float = 0.5  # for last words on a link that we close

    # Requests on short streams
    request_deadline_s: float = 5.0
    requests_at_once: int = 8  # per link
    request_burst: int = 30  # per peer: an invitation asks for one KeyPackage and one bundle
    request_every_s: float = 2.0  # then one each
    peers_rated: int = 1024  # buckets kept of each kind; the longest unused one goes

    # Dialling
    relay_fallback_s: float = 1.0  # the message does not wait longer for a direct link
    relay_fallback_lost_s: float = 0.3  # nor so long after one broke with messages under way
    invitation_reach_s: float = 6.0  # for a KeyPackage that nobody but the device itself has
    quick_resolve_s: float = 0.2  # what is known here, before asking anybody else
    dials_at_once: int = 16
    dial_turn_s: float = 1.0  # of one device; then the next one greets, too: its hello is awaited
    redial_first_s: float = 1.0  # after a failed dial; doubles, with jitter
    redial_last_s: float = 300.0
    news_burst: int = 2  # of one device's addresses, as of mDNS and the DHT; backoff starts anew
    news_every_s: float = 30.0  # then one each, or who moves all the time is dialled all the time
    pursue_s: float = 600.0  # after the last courier wanted a device; the outbox asks again
    devices_remembered: int = 1024  # with their dial backoff

    # Couriers
    window: int = 256  # parcels of one recipient under way: several turns, or both ends wait
    window_bytes: int = 16 * 1024 * KIB  # of them in memory, and one turn more
    take: int = 64
    take_at_once: int = 4  # couriers that fetch parcels from the engine; the others take turns
    take_crowded: int = 8  # parcels per turn while there are more couriers than turns
    frames_per_write: int = 32  # parcels sealed and written in one go
    deferrals_borne: int = 3  # one after the other, with nothing acknowledged between them
    relay_instead_s: float = 60.0  # then the relay is asked first; the next ack ends that
    relay_batch_bytes: int = 640 * KIB  # of sealed parcels in one call; the message limit is 1 MiB
    relay_batch_items: int = 64

    # Relays
    poll_s: float = 1.0  # a relay that does not push is asked this often
    poll_pages: int = 16  # in one look: twice a full mailbox; a relay has no end of them, maybe
    check_push_s: float = 60.0  # a relay that pushes is asked this often: it may have forgotten us
    poll_page: int = 128
    deferred_at_relay: int = 1000  # parcels to look at again; a mailbox holds no more
    refused_pause_s: float = 0.005  # for each parcel of no use: a flood of them costs little CPU
    relay_dial_s: float = 3.0
    relay_call_s: float = 10.0
    relay_proof_s: float = 1.5  # one that waits for a call and is silent so long is dialled anew
    relay_retry_first_s: float = 0.25
    relay_retry_last_s: float = 30.0
    relay_idle_s: float = 60.0  # a stranger's relay is let go then
    # … with several processes
    relay_next_s: float = 0.3  # a process that has not answered by then: the next is dialled, too
    relay_quiet_s: float = 5.0  # ours, silent so long, is asked: there is another one to go to
    relay_return_first_s: float = 15.0  # another one is preferred to one that failed; doubles
    relay_return_last_s: float = 900.0
    relay_steady_s: float = 600.0  # one that held so long failed by accident: it begins anew
    relay_list_s: float = 600.0  # between two looks at which processes there are, and two changes
    statement_every_s: float = 600.0  # a recipient's relays are asked whether it moved
    statement_failed_s: float = 15.0  # … and others, too, while none of them takes anything
    statement_relays: int = 8  # asked at once
    relays_at_once: int = 32
    # Relays, anonymously: a guise is a socket, a key and connections for one recipient
    spread_s: float = 2.0  # relays hear of several recipients within this time, at random
    guises_at_once: int = 24
    guises_at_relay: int = 16  # a handshake is 12 ms of ours: more at once would not be faster
    guise_life_s: float = 180.0  # half of it at least; then the relay sees somebody else
    guise_idle_s: float = 20.0
    guise_look_s: float = 1.0

    # Our delivery tokens: new ones are told within this time, at random
    tokens_spread_s: float = 120.0  # meanwhile the card's token, or none, is as good
    tokens_needed_s: float = 10.0  # a group's, which may be all that some member has

    key_package_stock: int = 20  # per suite and relay

    # The DHT
    dht_look_first_s: float = 3.0  # between two lookups of a device; doubles while nothing is new
    dht_look_last_s: float = 300.0
    dht_lookups_at_once: int = 4  # each asks some thirty strangers
    dht_remember_s: float = 300.0  # between writing down whom we know there
    dht_remembered: int = 64
    dht_publish_pause_s: float = 2.0  # between two puts of our record, however often it changes
    dht_publish_first_s: float = 5.0  # while fewer than should keep it do; doubles
    dht_publish_last_s: float = 120.0
    dht_reach_again_s: float = 900.0  # asking whether we are reachable from elsewhere
    dht_reach_unsure_s: float = 30.0
    dht_reach_asked: int = 6  # contacts, until two agree

    # Greeting
    greet: int = 32  # devices
    greet_at_once: int = 8

    # Meetings: each makes us send a few datagrams to where somebody says that a contact is
    meetings_of_signaller_burst: int = 16
    meetings_of_signaller_every_s: float = 8.0
    meetings_with_device_burst: int = 4  # it tries again after 1, 2, 4 … s
    meetings_with_device_every_s: float = 15.0
    meetings_burst: int = 48
    meetings_every_s: float = 4.0  # 12 KiB to each of eight addresses, if nobody answers there
    meeting_addresses_per_host: int = 2  # its NAT's and a forwarded port
    meeting_relays: int = 2  # of the peer's, asked
    meeting_processes: int = 2  # of each, one after the other
    meeting_peers: int = 3  # common peers, asked
    meeting_answer_s: float = 2.0  # to who asks for somebody we do not bring it together with
    meeting_patience_s: float = 0.6  # a message waits so long for an answer when nothing is dialled
    meeting_crossing_s: float = 0.5  # longest wait for the other side to have our answer

    # On the LAN: a peer that is killed is gone within lan_quiet_s + lan_silent_s
    lan_retry_every_s: float = 5.0  # the outbox of one device: a write, at each word of mDNS
    lan_quiet_s: float = 0.7  # after its last sign of life a peer is asked
    lan_silent_s: float = 1.0  # three packets, or one ping and QUIC's own repetitions
    lan_absent_first_s: float = 2.0  # who is gone is asked for: it may have been unplugged
    lan_absent_last_s: float = 64.0  # doubled each time; then only a word of its own brings it back

    # Where we are
    observers: int = 64  # whose word on our address is kept
    observed_s: float = 1000.0  # above dht_reach_again_s; relays are asked each minute
    look_at_addresses_s: float = 1.0  # laptops move; reading the adapters takes 0.3 ms
    better_path_s: float = 30.0  # how often a LAN path is looked for beside another; news do, too
    moved_proof_s: float = 1.0  # on another network, who does not answer by then is dialled anew
    moved_proof_least_s: float = 0.3  # or sooner, after four round trips: it may be seldom wrong
    publish_again_s: tuple[float, float] = (5.0, 300.0)  # pauses while others see us elsewhere
    asleep_s: float = 10.0  # that the wall clock went on without us: the machine slept


DEFAULT_DELIVERY_LIMITS = DeliveryLimits()
