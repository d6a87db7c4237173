"""What a stream of the DHT carries: one frame each way."""

from __future__ import annotations

from schemas.errors import Malformed
from transport import Stream, read_frame


async def only_frame_untrusted(stream: Stream, max_bytes: int) -> bytes:
    """The one frame that a stream holds, of at most `max_bytes`.

    Raises Malformed `no-frame`, `more-than-a-frame`, `frame-too-large`, `frame-truncated`;
    StreamReset, ConnectionLost.
    """
    frame = await read_frame(stream, max_bytes)
    if frame is None:
        raise Malformed("no-frame", "the stream ended without a word")
    if await stream.read(1):
        raise Malformed("more-than-a-frame", "bytes after the only frame of a stream")
    return frame
