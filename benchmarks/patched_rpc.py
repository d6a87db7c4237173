"""A Cap'n Proto RPC client that costs next to nothing, so that the relay is what is measured.

A call is made once by the library; each further one is a copy with another question id and other
parcel ids in it. Of the answers, the first is read by the library; the others must have its size,
which a refusal, with its text, has not.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import capnp

import transport
from schemas.frames import ErrorFrame
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import (
    EnqueueItem,
    NodeService,
    fill_auth,
    fill_enqueue_item,
    read_enqueue_result,
)

PARCEL_BYTES: Final = 400
_LIBRARY = Path(capnp.__file__).parent
_RPC = capnp.load(str(_LIBRARY / "rpc.capnp"), imports=[str(_LIBRARY.parent)])
_QUESTION: Final = 0x5A17C0DE  # found in the first message, replaced in each
_BOOTSTRAP: Final = 0
_RETURN: Final = 3  # of the union Message
_READ: Final = 1 << 18


class _Call:
    """One sender's call, to be sent again and again."""

    def __init__(self, device: DeviceKey, batch: int) -> None:
        recipient = DeviceKey(os.urandom(32))
        ids = [ParcelId(os.urandom(16)) for _ in range(batch)]
        method = "enqueue" if batch == 1 else "batchEnqueue"
        message = _RPC.Message.new_message()
        call = message.init("call")
        call.questionId = _QUESTION
        call.target.init("promisedAnswer").questionId = _BOOTSTRAP
        call.interfaceId = NodeService.schema.node.id
        call.methodId = list(NodeService.schema.method_names).index(method)
        params = call.params.content.as_struct(NodeService.schema.methods[method].param_type)
        fill_auth(params.init("auth"), device)
        slots = [params.init("item")] if batch == 1 else params.init("items", batch)
        expires = int(time.time()) + 86_400
        for slot, parcel in zip(slots, ids, strict=True):
            fill_enqueue_item(
                slot, EnqueueItem(recipient, parcel, expires, os.urandom(PARCEL_BYTES))
            )
        self.method = method
        self._bytes = bytearray(message.to_bytes())
        self._question_at = self._bytes.index(struct.pack("<I", _QUESTION))
        self._ids_at = [self._bytes.index(parcel) for parcel in ids]
        self._sent = 0

    def next(self, question: int) -> bytearray:
        """The message with this question id and parcel ids that were not there before."""
        struct.pack_into("<I", self._bytes, self._question_at, question)
        self._sent += 1
        for at in self._ids_at:
            struct.pack_into("<Q", self._bytes, at, self._sent)
        return self._bytes


class PatchedClient:
    """`senders` calls of `batch` parcels each, always under way on one RPC stream."""

    def __init__(
        self, stream: transport.Stream, device: DeviceKey, senders: int, batch: int
    ) -> None:
        self._stream = stream
        self._calls = [_Call(device, batch) for _ in range(senders)]
        self._batch = batch
        self._answer_bytes = 0
        self._finish = _finish_message()
        self.acknowledged = 0

    async def start(self) -> None:
        """Ask for the relay's NodeService; its answer is the first that `run` reads."""
        message = _RPC.Message.new_message()
        message.init("bootstrap").questionId = _BOOTSTRAP
        await self._stream.write(message.to_bytes())

    async def run(self, going_on: Callable[[], bool]) -> None:
        """Send until `going_on` says no, and hear the last answers."""
        out = bytearray()
        for number, call in enumerate(self._calls):
            out += call.next(number + 1)
        waiting = len(self._calls)
        unread = b""
        while waiting:
            if out:
                await self._stream.write(out)
                out = bytearray()
            data = unread + await self._stream.read(_READ)
            if len(data) == len(unread):
                raise ConnectionError("the relay ended the stream")
            again = going_on()
            at = 0
            while (size := _message_size(data, at)) and at + size <= len(data):
                kind, question = _kind_and_id(data, at)
                if kind != _RETURN:
                    raise ConnectionError("the relay sent something else than an answer")
                if question != _BOOTSTRAP:
                    self._check(data[at : at + size])
                    self.acknowledged += self._batch
                    struct.pack_into("<I", self._finish, _FINISH_ID_AT, question)
                    out += self._finish
                    if again:
                        out += self._calls[question - 1].next(question)
                    else:
                        waiting -= 1
                at += size
            unread = data[at:]

    def _check(self, answer: bytes) -> None:
        if len(answer) == self._answer_bytes:
            return
        with _RPC.Message.from_bytes(answer) as message:
            schema = NodeService.schema.methods[self._calls[0].method].result_type
            results = getattr(message, "return").results.content.as_struct(schema)
            outcomes = [results.result] if self._batch == 1 else results.results
            for outcome in map(read_enqueue_result, outcomes):
                if isinstance(outcome, ErrorFrame):
                    raise ConnectionError(f"the relay refused: {outcome.code}")
        self._answer_bytes = len(answer)


def _finish_message() -> bytearray:
    message = _RPC.Message.new_message()
    finish = message.init("finish")
    finish.questionId = _QUESTION
    finish.releaseResultCaps = False
    return bytearray(message.to_bytes())


_FINISH_ID_AT: Final = _finish_message().index(struct.pack("<I", _QUESTION))


def _message_size(data: bytes, at: int) -> int:
    """Bytes of the message at `at`, with its segment table; 0 when that is not there yet."""
    if len(data) < at + 8:
        return 0
    segments = struct.unpack_from("<I", data, at)[0] + 1
    table = (4 + 4 * segments + 7) // 8 * 8
    if len(data) < at + table:
        return 0
    return int(table + 8 * sum(struct.unpack_from(f"<{segments}I", data, at + 4)))


def _kind_and_id(data: bytes, at: int) -> tuple[int, int]:
    """Which member of the union Message it is, and the first number in that: its question id."""
    table = (4 + 4 * (struct.unpack_from("<I", data, at)[0] + 1) + 7) // 8 * 8
    root = at + table  # a pointer to Message, which has one word of data and one pointer
    message = root + 8 + 8 * (struct.unpack_from("<i", data, root)[0] >> 2)
    member = message + 8
    body = member + 8 + 8 * (struct.unpack_from("<i", data, member)[0] >> 2)
    return (
        int(struct.unpack_from("<H", data, message)[0]),
        int(struct.unpack_from("<I", data, body)[0]),
    )
