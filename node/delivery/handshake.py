"""The start of a link: one hello each way, checked before anything else is read or said."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import Final

from identity.credential import verify_credential_untrusted
from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.engine.delivery_commands import OwnHello
from schemas import limits as wire
from schemas.errors import Blame, Fault, Malformed
from schemas.frames import P2P_VERSION, ErrorFrame, Frame, Hello, decode_frame, encode_frame
from schemas.ids import IdentityKey
from transport import Connection, FrameStream

_VERSION_MISMATCH: Final = "version-mismatch"
_GENERATION: Final = "generation:"  # among the features of a dialer's hello
_LAST_GENERATION: Final = 1 << 31


class HelloRefused(Fault):
    """The peer's hello, or the lack of one, ends the link."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a completed handshake leaves: the main stream, the peer's hello, whose device it is."""

    frames: FrameStream
    hello: Hello
    identity: IdentityKey
    largest_frame: int
    generation: int  # 0, or one more than that of the link which the dialer gave up for this one


async def shake_hands(
    connection: Connection, ask: Ask, limits: DeliveryLimits, *, generation: int = 0
) -> Greeting:
    """Exchange hellos on the dialer's first stream; `generation` is told by a dialer.

    Raises Fault: `no-hello`, `version-mismatch`, `bad-credential`, `hello-refused` (the peer sent
    an error), `away` (the peer gets no link), Malformed, ConnectionLost. The peer was told why,
    where it broke the protocol.
    """
    frames: FrameStream | None = None
    try:
        async with asyncio.timeout(limits.hello_deadline_s):
            stream = await (
                connection.open_stream() if connection.dialed else connection.accept_stream()
            )
            frames = FrameStream(stream, max_read=wire.FRAME_BEFORE_HELLO)
            if connection.dialed:
                await _say_hello(frames, connection, ask, generation)
            hello = _check(await frames.read())
            identity = verify_credential_untrusted(connection.peer, hello.credential)
            if not connection.dialed:
                # Only to a device whose owner vouches for it do we say whose device we are.
                await _say_hello(frames, connection, ask)
                generation = _generation_untrusted(hello)
    except TimeoutError:
        fault: Fault = HelloRefused("no-hello", "the peer did not say hello", blame=Blame.PEER)
        if frames is not None:
            await say_error(frames, fault, limits)
        raise fault from None
    except (Malformed, HelloRefused) as fault:
        if frames is not None:
            await say_error(frames, fault, limits)
        raise
    # One limit for both directions: what one side sends, the other must be ready to read.
    largest = max(min(hello.largest_frame, wire.FRAME), wire.FRAME_BEFORE_HELLO)
    frames.max_read = largest
    return Greeting(frames, hello, identity, largest, generation)


async def _say_hello(
    frames: FrameStream, connection: Connection, ask: Ask, generation: int = 0
) -> None:
    hello = await ask(OwnHello(str(connection.remote), connection.peer))
    if generation:
        hello = dataclasses.replace(hello, features=(f"{_GENERATION}{generation}",))
    await frames.write(encode_frame(hello))


def _generation_untrusted(hello: Hello) -> int:
    """A peer can mix up nobody's links but its own."""
    for feature in hello.features:
        digits = feature.removeprefix(_GENERATION)
        if digits != feature and digits.isascii() and digits.isdigit() and len(digits) <= 10:
            return min(int(digits), _LAST_GENERATION)
    return 0


def _check(payload: bytes | None) -> Hello:
    if payload is None:
        raise HelloRefused("no-hello", "the peer ended before its hello", blame=Blame.PEER)
    frame: Frame = decode_frame(payload)
    if isinstance(frame, ErrorFrame):
        other_version = frame.code == _VERSION_MISMATCH
        raise HelloRefused(
            frame.code if other_version else "hello-refused",
            f"the peer refused: {frame.message or frame.code}",
            blame=Blame.INCOMPATIBLE if other_version else Blame.PEER,
            hint=frame.hint,
        )
    if not isinstance(frame, Hello):
        raise Malformed("no-hello", "the first frame is not a hello")
    if P2P_VERSION not in frame.versions:
        raise HelloRefused(
            _VERSION_MISMATCH,
            f"the peer speaks versions {list(frame.versions)}, this node {P2P_VERSION}",
            blame=Blame.INCOMPATIBLE,
            hint="upgrade whichever of the two is older",
        )
    return frame


async def say_error(frames: FrameStream, fault: Fault, limits: DeliveryLimits) -> None:
    """Tell the peer why its link ends, if it still listens."""
    frame = ErrorFrame(fault.code[:64], fault.message[:200], fault.hint[:200])
    try:
        async with asyncio.timeout(limits.flush_s):
            await frames.write(encode_frame(frame))
            await frames.finish()
            await frames.stream.drain(limits.flush_s)
    except (TimeoutError, Fault):
        return  # it does not listen
