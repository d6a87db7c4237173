"""Cap'n Proto RPC messages made one by one, and a peer that sends them: what no library sends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import capnp

from schemas.errors import Fault
from transport import Stream
from transport.rpc_messages import Kind, read_message_untrusted

_SITE = Path(capnp.__file__).parent.parent
rpc: Any = capnp.load(str(_SITE / "capnp" / "rpc.capnp"), imports=[str(_SITE)])
probe: Any = capnp.load(str(Path(__file__).with_name("rpc_test.capnp")))

PROMISE = 0  # the question whose answer is the bootstrap object
Fill = Callable[[Any], object]


def message(kind: str, fill: Fill = lambda _: None) -> bytes:
    """A framed message; `fill` writes its body."""
    root = rpc.Message.new_message()
    fill(root.init(kind))
    return bytes(root.to_bytes())


def framed(*segments: list[int]) -> bytes:
    """A message of these segments, in words."""
    head = [len(segments) - 1, *(len(words) for words in segments)]
    head += [0] * (len(head) % 2)
    raw = b"".join(each.to_bytes(4, "little") for each in head)
    return raw + b"".join(word.to_bytes(8, "little") for words in segments for word in words)


def bootstrap(question: int = PROMISE) -> bytes:
    return message("bootstrap", lambda body: setattr(body, "questionId", question))


def finish(question: int) -> bytes:
    return message("finish", lambda body: setattr(body, "questionId", question))


def call(
    question: int,
    method: str = "echo",
    *,
    data: bytes = b"",
    capabilities: int = 0,
    change: Fill = lambda _: None,
) -> bytes:
    """A call of the Probe behind the bootstrap promise; `change` makes it another."""

    def fill(body: Any) -> None:
        body.questionId = question
        body.target.init("promisedAnswer").questionId = PROMISE
        body.interfaceId = probe.Probe.schema.node.id
        body.methodId = list(probe.Probe.schema.methods).index(method)
        params = body.init("params")
        params.content.as_struct(probe.Blob).data = data
        if capabilities:  # as the library: it sends no empty table
            for index, each in enumerate(params.init("capTable", capabilities)):
                each.senderHosted = index
        change(body)

    return message("call", fill)


def subscribe(question: int) -> bytes:
    """A call that gives away capability 0 of the sender, as its first parameter."""
    marker = b"a place."
    raw = call(question, "subscribe", data=marker, capabilities=1)
    at = raw.index(marker)  # the pointer to it stands before it
    capability = (3).to_bytes(8, "little")
    return raw[: at - 8] + capability + bytes(len(marker)) + raw[at + len(marker) :]


class Peer:
    """A client by hand on `stream`: sends what it is told and counts what comes back."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.got: Counter[int] = Counter()  # by kind
        self.ended = asyncio.Event()
        self._buffer = bytearray()

    async def send(self, *messages: bytes) -> None:
        """Raises nothing when the other end has had enough."""
        try:
            await self.stream.write(b"".join(messages))
        except Fault:
            self.ended.set()

    async def read(self) -> None:
        """Until the stream ends."""
        try:
            while data := await self.stream.read():
                self._buffer += data
                at = 0
                while found := read_message_untrusted(self._buffer, at, 1 << 30):
                    self.got[found.kind] += 1
                    at = found.end
                del self._buffer[:at]
        except Fault:
            pass
        self.ended.set()

    @property
    def answers(self) -> int:
        return self.got[Kind.RETURN]
