"""Whether a QUIC endpoint is at an address, for one packet each way and no state on either side.

A packet of a version that nobody speaks is answered with the versions that are spoken, before
anything else (RFC 9000, 6.1 and 15). It fills 1,200 bytes, or it is not answered (14.1); the answer
has about 40, and repeats the two connection ids, 16 random bytes, that nobody else has seen. It
does not prove who answers: only that somebody does.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE

from schemas.addresses import Address
from schemas.errors import Fault

from .address import numeric_sockaddr
from .rate import Buckets, TokenBucket
from .udp import Bind, DatagramSocket, bind_udp

PROBES_PER_S: Final = 8.0  # in all: 10 kB
_SILENT_BURST: Final = 4.0  # probes of a host that never answered,
_SILENT_PER_S: Final = 0.1  # then one in ten seconds: it may be a victim that somebody named
_STAGGER_S: Final = 0.3
_ID_BYTES: Final = 8
_BUFFER: Final = 65_536
_DATAGRAMS_PER_WAKE: Final = 64
_ANYWHERE: Final = (Address("::", 0), Address("0.0.0.0", 0))  # noqa: S104 - dials only


class Prober:
    """A socket of its own, made by `open`. `counters`: probes by what became of them.

    `probe-sent`, `probe-answered`; `probe-unsent`, the kernel refused it; `probe-stray`, nobody
    asked for that answer.
    """

    def __init__(self, sock: DatagramSocket, rate: float, counters: Counter[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._bucket = TokenBucket(rate, rate / 2)
        self._silent: Buckets[str] = Buckets(_SILENT_PER_S, _SILENT_BURST)
        self._asked: dict[bytes, tuple[Address, asyncio.Future[Address]]] = {}
        self.counters = counters
        self._loop.add_reader(sock, self._on_readable)

    @classmethod
    async def open(
        cls,
        *,
        bind: Bind | None = None,
        rate: float = PROBES_PER_S,
        counters: Counter[str] | None = None,
    ) -> Prober:
        """`bind` as Endpoint.open's; `rate` in probes per second. Raises Fault `cannot-bind`."""
        counters = Counter() if counters is None else counters
        for address in _ANYWHERE[:-1]:
            with suppress(Fault):
                return cls((bind or bind_udp)(address, _BUFFER), rate, counters)
        return cls((bind or bind_udp)(_ANYWHERE[-1], _BUFFER), rate, counters)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def alive(self, host: str) -> None:
        """Somebody answers there, by a probe or whatever else proves it: it is no victim."""
        self._silent.forget(host)

    async def probe(self, addresses: Sequence[Address], *, deadline_s: float) -> Address | None:
        """The first of the literal addresses that answers, or None when none does.

        They are asked in turn, and again, until `deadline_s` after the first packet has left, which
        may have to wait for its turn.
        """
        answered: asyncio.Future[Address] = self._loop.create_future()
        ids: list[bytes] = []
        end: float | None = None
        try:
            for address in itertools.cycle(addresses):
                await self._wait_for_turn(address.host)
                if not answered.done():
                    ids.append(self._send(address, answered))
                now = self._loop.time()
                end = now + deadline_s if end is None else end
                wait = end - now if end - now < 2 * _STAGGER_S else _STAGGER_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, 0.0)):
                        return await asyncio.shield(answered)
                if self._loop.time() >= end:
                    break
        finally:
            for each in ids:
                self._asked.pop(each, None)
        return None

    async def _wait_for_turn(self, host: str) -> None:
        """Nobody waits behind a host that has had enough."""
        for bucket in (self._silent.of(host), self._bucket):
            now = self._loop.time()
            wait = bucket.wait_s(now)
            bucket.use(1, now)
            await asyncio.sleep(wait)

    def _send(self, address: Address, answered: asyncio.Future[Address]) -> bytes:
        ids = secrets.token_bytes(2 * _ID_BYTES)
        self._asked[ids] = address, answered
        to = numeric_sockaddr(address.host, address.port, self._sock.family)
        try:
            if to is None:
                raise OSError("not for this socket")
            self._sock.sendto(_packet(ids), to)
        except OSError:
            self.counters["probe-unsent"] += 1
        else:
            self.counters["probe-sent"] += 1
        return ids

    def _on_readable(self) -> None:
        for _ in range(_DATAGRAMS_PER_WAKE):
            try:
                data, _from = self._sock.recvfrom(_BUFFER)
            except OSError:
                return
            self._receive_untrusted(data)

    def _receive_untrusted(self, data: bytes) -> None:
        ids = answered_ids_untrusted(data)
        address, answered = self._asked.pop(ids, (None, None)) if ids else (None, None)
        if address is None or answered is None:
            self.counters["probe-stray"] += 1
            return
        self.counters["probe-answered"] += 1
        self.alive(address.host)
        if not answered.done():
            answered.set_result(address)


def _packet(ids: bytes) -> bytes:
    """A long header of a reserved version, 0x?a?a?a?a (RFC 9000, 15), and padding."""
    version = bytes(secrets.randbits(8) & 0xF0 | 0x0A for _ in range(4))
    first = bytes([0xC0 | secrets.randbits(4)])
    size = bytes([_ID_BYTES])
    header = first + version + size + ids[:_ID_BYTES] + size + ids[_ID_BYTES:]
    return header.ljust(SMALLEST_MAX_DATAGRAM_SIZE, b"\0")


def answered_ids_untrusted(data: bytes) -> bytes | None:
    """The ids of the probe that a Version Negotiation packet answers (RFC 9000, 17.2.1), or None.

    It has version 0, and the two ids of the packet that it answers, changed over.
    """
    size = bytes([_ID_BYTES])
    source = 6 + _ID_BYTES
    if len(data) < source + 1 + _ID_BYTES + 4 or not data[0] & 0x80 or data[1:5] != bytes(4):
        return None
    if data[5:6] != size or data[source : source + 1] != size:
        return None
    return data[source + 1 : source + 1 + _ID_BYTES] + data[6:source]
