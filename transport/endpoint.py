"""One UDP socket that accepts and dials: routing, admission, the lives of connections."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.addresses import Address
from schemas.errors import Blame, Fault, Unreachable
from schemas.ids import DeviceKey

from .address import SockAddr, address_of_socket, resolve
from .admission import Admission, Decision, Verdict, destination_id_untrusted
from .certificate import OwnCertificate, device_key_of
from .configuration import client_configuration, require_supported_aioquic, server_configuration
from .connection import Connection
from .datagrams import ANY_SOURCE, Ancillary, Datagrams, Received
from .dial import Tried, dial_fault, ignore, race
from .errors import CloseCode, EndedBy
from .limits import DEFAULT_LIMITS, TransportLimits
from .quic import MutualQuicConnection
from .serving import Handler, serve
from .stateless_reset import PAST, PeerTokens, ResetKey
from .strangers import Strangers
from .supervise import Supervisor
from .tls import PeerPolicy
from .udp import Bind, DatagramSocket, bind_udp, forbid_fragments

log = logging.getLogger(__name__)


def utc_clock() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Endpoint:
    """A node's or relay's place on the network. Made by `open`, ended by `close`.

    `address` is where it is bound, `device` who it is, `counters` what was dropped and why,
    `strangers` who dialled it first.
    """

    def __init__(
        self,
        private_key: Ed25519PrivateKey,
        sock: DatagramSocket,
        handlers: Mapping[str, Handler],
        limits: TransportLimits,
        utc_now: Callable[[], datetime.datetime],
        *,
        post_quantum_only: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._key = private_key
        self._sock = sock
        self._datagrams = Datagrams(sock)
        self._handlers = dict(handlers)
        self._limits = limits
        self._utc_now = utc_now
        self._post_quantum_only = post_quantum_only
        self._certificate = OwnCertificate(private_key, utc_now)
        self._admission = Admission(limits, listening=bool(handlers))
        self._routes: dict[bytes, Connection] = {}
        self._ids: dict[Connection, list[bytes]] = {}  # what to remove from the routes at the end
        self._reset_key = ResetKey(private_key, limits.resets_per_s)
        self._peer_tokens: PeerTokens[Connection] = PeerTokens()
        self._accepted: set[Connection] = set()
        self._established: set[Connection] = set()
        self._closed = False
        self.counters: Counter[str] = Counter()
        self.strangers = Strangers()
        self._tasks = Supervisor(lambda _name: self.count("handler-crashed"))
        self.device: DeviceKey = device_key_of(private_key)
        self.address: Address = address_of_socket(sock.getsockname())

    @classmethod
    async def open(
        cls,
        private_key: Ed25519PrivateKey,
        listen: Address,
        *,
        handlers: Mapping[str, Handler],
        limits: TransportLimits = DEFAULT_LIMITS,
        utc_now: Callable[[], datetime.datetime] = utc_clock,
        post_quantum_only: bool = False,
        bind: Bind | None = None,
    ) -> Self:
        """Bind one UDP socket, and accept and dial through it.

        `handlers` maps an ALPN to a coroutine function that gets each accepted connection and runs
        for its life; when it returns the connection is closed, when the connection ends it is
        cancelled after `close_grace_s`, what it raises is logged and counted. Without handlers the
        endpoint only dials. Port 0 takes any free one. `utc_now` is only compared with
        certificates' validity; all other time is the loop's. `post_quantum_only` refuses peers that
        have no X25519MLKEM768, accepted or dialled. `bind` is for a network that is not the
        kernel's: the running loop's `add_reader` has to take what it returns. One endpoint per
        key: see stateless_reset.py.

        Raises Fault `port-busy`, `cannot-bind`, `aioquic-version`; Refused `bad-address`.
        """
        require_supported_aioquic()
        sock = (bind or bind_udp)(listen, limits.socket_buffer)
        if not forbid_fragments(sock):
            limits = dataclasses.replace(limits, largest_datagram=limits.datagram)
        endpoint = cls(
            private_key, sock, handlers, limits, utc_now, post_quantum_only=post_quantum_only
        )
        endpoint._loop.add_reader(sock, endpoint._on_readable)
        return endpoint

    @property
    def connections(self) -> list[Connection]:
        """The live connections with a proven peer, oldest first."""
        return sorted(self._established, key=lambda connection: connection.opened_at)

    async def dial(
        self,
        candidates: Sequence[Address],
        *,
        expected: DeviceKey,
        alpn: str,
        deadline_s: float | None = None,
        post_quantum_only: bool = False,
        tried: Tried = ignore,
    ) -> Connection:
        """Connect to the device `expected` at whichever of `candidates` answers first.

        They are tried in order, `dial_stagger_s` apart. A peer that cannot prove `expected` gets
        nothing of ours, not even who dialled. `post_quantum_only` offers X25519MLKEM768 alone, as
        the endpoint's own policy does. Of several failures the most telling is raised: Refused
        `wrong-peer`, `certificate-refused`, `wrong-alpn`, `not-post-quantum`, `handshake-failed`;
        Unreachable `name-not-found`, `no-route`, `no-answer`. `tried` hears what became of each
        candidate that was not overtaken by another or by the deadline.
        """
        if not isinstance(expected, DeviceKey):
            raise TypeError("dial() needs the device key to expect")
        strict = post_quantum_only or self._post_quantum_only
        policy = PeerPolicy(expected, self._utc_now, strict)
        return await self._race(candidates, policy, alpn, deadline_s, tried)

    async def _race(
        self,
        candidates: Sequence[Address],
        policy: PeerPolicy,
        alpn: str,
        deadline_s: float | None,
        tried: Tried = ignore,
    ) -> Connection:
        if self._closed:
            raise Fault("endpoint-closed", "The endpoint is closed", blame=Blame.CALLER)
        unique = list(dict.fromkeys(candidates))[: self._limits.max_candidates]
        return await race(
            [functools.partial(self._dial_one, each, policy, alpn, tried) for each in unique],
            stagger_s=self._limits.dial_stagger_s,
            deadline_s=self._limits.dial_deadline_s if deadline_s is None else deadline_s,
            discard=_lose_race,
        )

    async def close(self) -> None:
        """Close all connections, end all handlers, free the port; takes about a second at most."""
        if self._closed:
            return
        self._closed = True
        for connection in list(self._ids):
            connection.close_now(CloseCode.NORMAL, "endpoint closed")
        await self._tasks.close(self._limits.close_grace_s / 2)
        self._loop.remove_reader(self._sock)
        self._sock.close()

    # Called by connections

    def send(self, data: bytes, to: SockAddr, source: Ancillary = ANY_SOURCE) -> bool:
        """Hand a datagram to the kernel; False when it is larger than the interface carries.

        Any other failure is as if it were lost on the way: QUIC sends again.
        """
        failure = self._datagrams.send(data, to, source)
        if failure is not None:
            self.count(failure)
            if failure == "send-no-route":
                for connection in [c for c in self._ids if c.dialed and not c.established]:
                    if connection.quic.get_peer_address() == to:
                        connection.fail_dial(
                            Unreachable("no-route", f"There is no way to {address_of_socket(to)}")
                        )
        return failure != "send-too-large"

    def route(self, connection_id: bytes, connection: Connection) -> None:
        if connection_id not in self._routes:  # told twice: made, and sent
            self._routes[connection_id] = connection
            self._ids[connection].append(connection_id)

    def unroute(self, connection_id: bytes) -> None:
        connection = self._routes.pop(connection_id, None)
        if connection is not None:
            self._ids[connection].remove(connection_id)
            self._reset_key.retire([connection_id], self._loop.time())

    def handshake_completed(self, connection: Connection) -> None:
        self._admission.settled(connection)
        self._established.add(connection)
        if not connection.dialed:
            self.strangers.accepted(connection.remote.host)
            handler = self._handlers[connection.alpn]
            self._tasks.start(
                serve(connection, handler, self._limits.close_grace_s, self.count),
                name=f"serve {connection.alpn}",
            )

    def ended(self, connection: Connection) -> None:
        connection_ids = self._ids.pop(connection, [])
        self._reset_key.retire(connection_ids, self._loop.time())
        for connection_id in connection_ids:
            if self._routes.get(connection_id) is connection:
                del self._routes[connection_id]
        self._admission.settled(connection)
        self._peer_tokens.forget(connection)
        self._accepted.discard(connection)
        self._established.discard(connection)
        reason = connection.close_reason
        if not connection.established and reason is not None and reason.by is not EndedBy.LOCAL:
            refusal = connection.quic.refusal
            self.count("handshake-failed" if refusal is None else f"handshake-{refusal.code}")

    def count(self, reason: str) -> None:
        self.counters[reason] += 1

    # Receiving

    def _on_readable(self) -> None:
        now = self._loop.time()
        touched: dict[Connection, None] = {}
        for _ in range(self._limits.datagrams_per_wake):
            try:
                received = self._datagrams.receive()
            except BlockingIOError:
                break
            except OSError:
                self.count("receive-failed")
                break
            connection = self._find_untrusted(received)
            if connection is not None and self._guard(
                connection, connection.receive, received.data, received.remote, now
            ):
                touched[connection] = None
        for connection in touched:
            if not connection.quic.started:
                # The first packet did not decrypt: no state for whoever made it up.
                self.count("bad-initial")
                connection.abort()
            else:
                self._guard(connection, connection.after_receiving)
                if connection.established and not connection.closed:
                    self._peer_tokens.follow(connection, connection.quic.peer_reset_token)

    def _guard(self, connection: Connection, step: Callable[..., None], *what: object) -> bool:
        """One connection's bytes must not stop the endpoint, whatever the library does."""
        try:
            step(*what)
        except Exception:
            self.count("internal-error")
            log.exception("a connection failed on received bytes; dropped")
            log.debug("it was %r", connection)
            connection.abort()
            return False
        return True

    def _find_untrusted(self, received: Received) -> Connection | None:
        data, remote, _ = received
        connection_id = destination_id_untrusted(data)
        if connection_id is None:
            self.count(Verdict.GARBAGE)
            return None
        connection = self._routes.get(connection_id)
        if connection is not None:
            return connection
        now = self._loop.time()
        if not data[0] & 0x80:
            self._on_stray_untrusted(received, connection_id, now)
            return None
        decision = self._admission.judge_untrusted(
            data, remote, now=now, accepted=len(self._accepted)
        )
        if decision.verdict is Verdict.ACCEPT:
            return self._accept(connection_id, received, decision)
        self.count(decision.verdict)
        if decision.reply:
            self.send(decision.reply, remote, received.answer_source)
        return None

    def _on_stray_untrusted(self, received: Received, connection_id: bytes, now: float) -> None:
        """A short header of no connection: a stateless reset, or a peer of our former life."""
        connection = self._peer_tokens.find_untrusted(received.data)
        if connection is PAST:
            self.count("reset-late")
        elif connection is not None:
            # A word of the peer's own in the same batch comes first: it says more.
            self._loop.call_soon(self._reset, connection)
        elif self._reset_key.is_late(connection_id, now):
            self.count("late")
        else:
            self.count(Verdict.UNKNOWN_CONNECTION)
            reset = self._reset_key.reset_for(received.data, connection_id, now)
            if reset is not None:
                self.count("reset-sent")
                self.send(reset, received.remote, received.answer_source)

    def _reset(self, connection: Connection) -> None:
        self.count("reset-late" if connection.closed else "reset-received")
        connection.reset_by_peer()

    def _accept(self, connection_id: bytes, received: Received, decision: Decision) -> Connection:
        configuration = server_configuration(
            self._key, self._certificate.current(), list(self._handlers), self._limits
        )
        policy = PeerPolicy(None, self._utc_now, self._post_quantum_only)
        quic = MutualQuicConnection(
            configuration=configuration,
            policy=policy,
            limits=self._limits,
            original_destination_connection_id=decision.original_id,
            retry_source_connection_id=decision.retry_source_id,
            reset_token=self._reset_key.token,
        )
        connection = self._add(quic, received.remote, dialed=False)
        connection.source = received.answer_source
        self.route(connection_id, connection)
        self._admission.opened(connection, received.remote, decision)
        self._accepted.add(connection)
        return connection

    def _add(self, quic: MutualQuicConnection, remote: SockAddr, *, dialed: bool) -> Connection:
        connection = Connection(quic, self, dialed=dialed, remote=remote, limits=self._limits)
        self._ids[connection] = []
        self.route(quic.host_cid, connection)
        return connection

    # Dialling

    async def _dial_one(
        self, candidate: Address, policy: PeerPolicy, alpn: str, tried: Tried
    ) -> Connection:
        try:
            connection = await self._shake_hands(candidate, policy, alpn)
        except Fault as fault:
            tried(candidate, fault)
            raise
        tried(candidate, None)
        return connection

    async def _shake_hands(self, candidate: Address, policy: PeerPolicy, alpn: str) -> Connection:
        remote = await resolve(candidate, self._sock.family)
        self.strangers.dialled(address_of_socket(remote).host)
        configuration: QuicConfiguration = client_configuration(
            self._key, self._certificate.current(), alpn, self._limits
        )
        quic = MutualQuicConnection(
            configuration=configuration,
            policy=policy,
            limits=self._limits,
            reset_token=self._reset_key.token,
        )
        connection = self._add(quic, remote, dialed=True)
        try:
            connection.start()
            await connection.wait_established()
        except Fault as fault:
            raise dial_fault(fault, post_quantum_only=policy.post_quantum_only) from fault
        except BaseException:
            _lose_race(connection)
            raise
        return connection


def _lose_race(connection: Connection) -> None:
    connection.close_now(CloseCode.RACE_LOST, "another address answered first")
