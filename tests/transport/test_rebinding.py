"""A client whose address changes on the way (NAT rebinding), for real and by somebody's forgery."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

from tests.transport.hostile import PING, frame, inject
from tests.transport.support import ALPN, QUICK, Inbox, Open, eventually, within
from tests.transport.virtual import JumpingLoop, virtual_pair
from transport import Address, Connection, FrameStream, TransportLimits
from transport.address import SockAddr

LIMITS = replace(QUICK, idle_timeout_s=5.0)


class Nat:
    """Between a client and a server; `rebind` gives the client another port at the server."""

    def __init__(self, server: Address) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = (server.host, server.port)
        self._client: SockAddr | None = None
        self._inside = self._socket(self._from_client)
        self._outside: list[socket.socket] = []
        self.received: dict[int, int] = {}  # port -> bytes that the server sent to it
        self.sent: dict[int, int] = {}
        self.forge_next = False
        self.rebind()

    @property
    def address(self) -> Address:
        return Address(*self._inside.getsockname())

    @property
    def port(self) -> int:
        return int(self._outside[-1].getsockname()[1])

    def rebind(self) -> None:
        if self._outside:
            self._loop.remove_reader(self._outside[-1])  # the old mapping is gone
        self._outside.append(self._socket(self._from_server))

    def close(self) -> None:
        for each in (self._inside, *self._outside):
            self._loop.remove_reader(each)
            each.close()

    def _socket(self, readable: object) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self._loop.add_reader(sock, readable, sock)  # type: ignore[arg-type]
        return sock

    def _from_client(self, sock: socket.socket) -> None:
        for data, self._client in _drain(sock):
            out = self._outside[-1]
            if self.forge_next:
                # Somebody on the way: takes the packet off the wire and sends it from elsewhere.
                self.forge_next = False
                out = self._socket(self._swallow)
                self._outside.insert(0, out)
            port = out.getsockname()[1]
            self.sent[port] = self.sent.get(port, 0) + len(data)
            out.sendto(data, self._server)

    def _from_server(self, sock: socket.socket) -> None:
        for data, _ in _drain(sock):
            self._count(sock, data)
            if self._client is not None:
                self._inside.sendto(data, self._client)

    def _swallow(self, sock: socket.socket) -> None:
        for data, _ in _drain(sock):
            self._count(sock, data)

    def _count(self, sock: socket.socket, data: bytes) -> None:
        port = sock.getsockname()[1]
        self.received[port] = self.received.get(port, 0) + len(data)


def _drain(sock: socket.socket) -> Iterator[tuple[bytes, SockAddr]]:
    try:
        while True:
            yield sock.recvfrom(65_535)
    except BlockingIOError:
        return


class Echoed:
    """A client behind a NAT, a server that echoes frames, and the traffic between them."""

    def __init__(self, nat: Nat, dialed: Connection, accepted: Connection) -> None:
        self.nat, self.dialed, self.accepted = nat, dialed, accepted

    @classmethod
    async def make(cls, open_endpoint: Open) -> Echoed:
        inbox = Inbox()
        server = await open_endpoint(inbox, limits=LIMITS)
        client = await open_endpoint(limits=LIMITS)
        nat = Nat(server.address)
        dialed = await within(client.dial([nat.address], expected=server.device, alpn=ALPN))
        return cls(nat, dialed, await inbox.next())

    async def frames(self, count: int, at: dict[int, object]) -> None:
        """`count` frames there and back; `at` number N its function is called."""
        mine = FrameStream(await self.dialed.open_stream())

        async def echo() -> None:
            theirs = FrameStream(await self.accepted.accept_stream())
            while (payload := await theirs.read()) is not None:
                await theirs.write(payload)
            await theirs.finish()

        echoing = asyncio.create_task(echo())
        for number in range(count):
            if number in at:
                at[number]()  # type: ignore[operator]
            payload = b"%d" % number
            await mine.write(payload)
            assert await within(mine.read()) == payload
        await mine.finish()
        assert await within(mine.read()) is None
        await echoing


async def test_a_rebinding_is_followed_and_nothing_is_lost(open_endpoint: Open) -> None:
    link = await Echoed.make(open_endpoint)
    try:
        before = link.accepted.remote
        moves: list[Address] = []
        link.accepted.on_moved(lambda: moves.append(link.accepted.remote))
        assert before.port == link.nat.port
        await link.frames(300, {50: link.nat.rebind, 150: link.nat.rebind, 250: link.nat.rebind})
        assert link.accepted.remote.port == link.nat.port != before.port
        assert len(moves) == 3, "each is told once"
        assert moves[-1] == link.accepted.remote
        assert not link.dialed.closed
        # The path is a new one: what it carries is found out again.
        await eventually(lambda: link.accepted.quic.datagram_size > 1_200)
    finally:
        link.nat.close()


async def test_a_rebinding_in_the_middle_of_bulk(open_endpoint: Open) -> None:
    link = await Echoed.make(open_endpoint)
    try:
        stream = await link.accepted.open_stream()
        await stream.write(b"!")
        theirs = await within(link.dialed.accept_stream())

        async def write() -> None:
            await stream.write(bytes(5_000_000))
            await stream.finish()

        writing = asyncio.create_task(write())
        got = 0
        while data := await within(theirs.read()):
            if got < 2_000_000 <= got + len(data):
                link.nat.rebind()
                asyncio.get_running_loop().call_later(0.05, link.dialed.quic.send_ping, 999)
                asyncio.get_running_loop().call_later(0.06, link.dialed.transmit)
            got += len(data)
        await writing
        assert got == 5_000_001
    finally:
        link.nat.close()


async def test_a_forged_rebinding_is_not_followed(open_endpoint: Open) -> None:
    """One packet of the client's comes from elsewhere: it is not believed without an answer."""
    link = await Echoed.make(open_endpoint)
    try:

        def forge() -> None:
            link.nat.forge_next = True

        honest = link.accepted.remote
        await link.frames(200, {100: forge})
        forged = link.nat._outside[0].getsockname()[1]
        assert forged != link.nat.port
        assert link.accepted.remote == honest
        # Anti-amplification (RFC 9000, 9.3.1): three times what came from there, at most.
        assert link.nat.received.get(forged, 0) <= 3 * link.nat.sent[forged]
    finally:
        link.nat.close()


def test_an_address_in_doubt_is_not_reported(loop: JumpingLoop) -> None:
    """Until it answers a challenge, an address is only where a packet came from."""

    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(TransportLimits())
        await client.wait_established()
        await asyncio.sleep(2)
        honest = server.remote
        to_server.address = ("198.51.100.7", 7)  # what the client sends comes from there now
        to_client.cut = True  # and whoever is there does not answer
        inject(client, frame(PING))
        await asyncio.sleep(0.3)
        assert server.quic.get_peer_address() == ("198.51.100.7", 7)
        assert server.remote == honest
        to_server.address = ("192.0.2.1", 7000)
        to_client.cut = False
        await client.ping()
        assert server.remote == honest
        assert server.quic.get_peer_address() == ("192.0.2.1", 7000)

    loop.run_until_complete(asyncio.wait_for(scenario(), 100))
