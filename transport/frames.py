"""Frames on a stream: 4-byte little-endian length, then that many bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from schemas.errors import Malformed
from schemas.limits import FRAME_BEFORE_HELLO

from .stream import Stream

_LENGTH = struct.Struct("<I")
_READ_BYTES = 65_536
_MAX_LENGTH = 0xFFFF_FFFF


class FrameStream:
    """Frames both ways on one stream, many frames to a read.

    `max_read` is the largest payload taken from the peer, in bytes; it may be raised later (the
    peer's hello says what it sends). At most that, and one read more, is buffered.
    """

    def __init__(self, stream: Stream, *, max_read: int = FRAME_BEFORE_HELLO) -> None:
        self.stream = stream
        self.max_read = max_read
        self._buffer = bytearray()
        self._start = 0

    async def read(self) -> bytes | None:
        """The next payload (it may be empty); None when the peer finished between two frames.

        Raises Malformed `frame-too-large` or `frame-truncated`, StreamReset, ConnectionLost.
        """
        if not await self._have(_LENGTH.size):
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        if length > self.max_read:
            raise _too_large(length, self.max_read)
        if not await self._have(_LENGTH.size + length):
            raise _truncated()
        start = self._start + _LENGTH.size
        payload = bytes(self._buffer[start : start + length])
        self._start = start + length
        return payload

    async def write(self, payload: bytes) -> None:
        """Queue one frame; waits while the stream's buffer is full."""
        await self.write_all([payload])

    async def write_all(self, payloads: Sequence[bytes]) -> None:
        """Queue several frames in one go."""
        parts: list[bytes] = []
        for payload in payloads:
            if len(payload) > _MAX_LENGTH:
                raise ValueError("a frame's length has 4 bytes")
            parts += (_LENGTH.pack(len(payload)), payload)
        await self.stream.write(b"".join(parts))

    async def finish(self) -> None:
        await self.stream.finish()

    async def _have(self, size: int) -> bool:
        """Buffer at least `size` bytes from `_start`; False at a clean end between frames."""
        while len(self._buffer) - self._start < size:
            if self._start:
                del self._buffer[: self._start]
                self._start = 0
            data = await self.stream.read(_READ_BYTES)
            if not data:
                if self._buffer:
                    raise _truncated()
                return False
            self._buffer += data
        return True


async def read_frame(stream: Stream, max_bytes: int) -> bytes | None:
    """One frame's payload, reading no byte beyond it; None when the stream ends before it.

    Raises Malformed `frame-too-large` or `frame-truncated`, StreamReset, ConnectionLost.
    """
    head = await _read_exactly(stream, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise _truncated()
    (length,) = _LENGTH.unpack(head)
    if length > max_bytes:
        raise _too_large(length, max_bytes)
    payload = await _read_exactly(stream, length)
    if len(payload) < length:
        raise _truncated()
    return payload


async def write_frame(stream: Stream, payload: bytes) -> None:
    """Queue one frame; waits while the stream's buffer is full."""
    await FrameStream(stream).write(payload)


async def _read_exactly(stream: Stream, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        data = await stream.read(size)
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _too_large(length: int, limit: int) -> Malformed:
    return Malformed("frame-too-large", f"A frame of {length} bytes; {limit} are allowed")


def _truncated() -> Malformed:
    return Malformed("frame-truncated", "The stream ended inside a frame")
