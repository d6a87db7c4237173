"""Requests over a link, each on a short stream of its own: bundles, KeyPackages, meetings."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.rates import Rates
from node.engine.delivery_commands import AnswerBundle, AnswerKeyPackage
from schemas import limits as wire
from schemas.addresses import Address
from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable
from schemas.frames import (
    BundleRequest,
    BundleResponse,
    ErrorFrame,
    Frame,
    KeyPackageRequest,
    KeyPackageResponse,
    Meet,
    MeetRequest,
    MeetResponse,
    decode_frame,
    encode_frame,
)
from schemas.ids import IdentityKey
from transport import CloseCode, ConnectionLost, Stream, StreamReset, read_frame, write_frame

OnMeeting = Callable[[Link, MeetRequest | Meet], Awaitable[tuple[Address, ...]]]

log = logging.getLogger(__name__)


class RequestServer:
    """Answers the short streams that linked devices open."""

    def __init__(
        self,
        ask: Ask,
        limits: DeliveryLimits,
        counters: Counter[str],
        clock: Callable[[], float],
        on_meeting: OnMeeting,
    ) -> None:
        self._ask = ask
        self._on_meeting = on_meeting
        self._limits = limits
        self._counters = counters
        self._rates = Rates(
            burst=limits.request_burst,
            every_s=limits.request_every_s,
            remembered=limits.peers_rated,
            clock=clock,
        )

    async def serve(self, link: Link, stream: Stream) -> None:
        """Read one request, write one answer, finish. A bad one costs the peer its stream."""
        try:
            async with asyncio.timeout(self._limits.request_deadline_s):
                payload = await read_frame(stream, wire.FRAME_BEFORE_HELLO)
                if payload is None:
                    return
                answer = await self._answer(link, payload)
                await write_frame(stream, encode_frame(answer))
                await stream.finish()
        except TimeoutError:
            self._counters["request-slow"] += 1
        except (ConnectionLost, StreamReset):
            self._counters["request-abandoned"] += 1
        except Malformed as fault:
            self._counters[f"request-{fault.code}"] += 1
            link.close(fault.code, CloseCode.PROTOCOL)
        finally:
            stream.cancel()

    async def _answer(self, link: Link, payload: bytes) -> Frame:
        device, request = link.peer, decode_frame(payload)
        if not isinstance(request, BundleRequest | KeyPackageRequest | MeetRequest | Meet):
            raise Malformed("unexpected-frame", f"a {type(request).__name__} as a request")
        wait_s = self._rates.take(device)
        if wait_s:
            self._counters["request-rate-limited"] += 1
            return ErrorFrame(
                "rate-limited", "too many requests", "wait", max(1, int(wait_s * 1000))
            )
        try:
            if isinstance(request, MeetRequest | Meet):
                return MeetResponse(await self._on_meeting(link, request))
            if isinstance(request, BundleRequest):
                return await self._ask(AnswerBundle(request.identity, request.newer_than, device))
            package = await self._ask(AnswerKeyPackage(device, request.suite, request.request_id))
        except Fault as fault:
            self._counters[f"request-{fault.code}"] += 1
            return ErrorFrame(fault.code, fault.message[:200], fault.hint[:200])
        return KeyPackageResponse(package)


async def ask_bundle(
    link: Link, identity: IdentityKey, newer_than: int, limits: DeliveryLimits
) -> BundleResponse:
    """The bundle of `identity` from a linked device. Raises as `_request`."""
    answer = await _request(link, BundleRequest(identity, newer_than), limits)
    if not isinstance(answer, BundleResponse):
        raise Malformed("unexpected-frame", "another answer than a bundle")
    return answer


async def ask_key_package(
    link: Link, suite: int, request_id: bytes, limits: DeliveryLimits
) -> bytes:
    """A KeyPackage of the linked device itself. Raises as `_request`."""
    answer = await _request(link, KeyPackageRequest(suite, request_id), limits)
    if not isinstance(answer, KeyPackageResponse):
        raise Malformed("unexpected-frame", "another answer than a KeyPackage")
    return answer.key_package


async def ask_meeting(
    link: Link, request: MeetRequest | Meet, limits: DeliveryLimits
) -> tuple[Address, ...]:
    """Where the device is that is asked for, by a linked one. Raises as `_request`."""
    answer = await _request(link, request, limits)
    if not isinstance(answer, MeetResponse):
        raise Malformed("unexpected-frame", "another answer than to a meeting")
    return answer.addresses


async def _request(link: Link, request: Frame, limits: DeliveryLimits) -> Frame:
    """Raises Refused with the peer's code, Unreachable `no-answer`, Malformed, ConnectionLost."""
    stream: Stream | None = None
    try:
        with link.requesting():
            async with asyncio.timeout(limits.request_deadline_s):
                stream = await link.connection.open_stream()
                await write_frame(stream, encode_frame(request))
                await stream.finish()
                payload = await read_frame(stream, wire.FRAME)
    except TimeoutError:
        raise Unreachable("no-answer", "the peer did not answer a request") from None
    except StreamReset as fault:
        raise Unreachable("no-answer", "the peer ended a request") from fault
    finally:
        if stream is not None:
            stream.cancel()
    if payload is None:
        raise Unreachable("no-answer", "the peer ended a request without an answer")
    answer = decode_frame(payload)
    if isinstance(answer, ErrorFrame):
        raise Refused(answer.code, answer.message, blame=Blame.PEER, hint=answer.hint)
    return answer
