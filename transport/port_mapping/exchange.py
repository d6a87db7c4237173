"""One question to a gateway and its answer, over UDP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from schemas.errors import Malformed, Unreachable

from .values import Gateway, MappingLimits

PORT: Final = 5351  # of NAT-PMP and PCP alike

T = TypeVar("T")


async def exchange(
    gateway: Gateway,
    request: bytes,
    parse: Callable[[bytes], T],
    limits: MappingLimits,
    counters: Counter[str],
) -> T:
    """Ask until something comes that `parse` takes; what it finds Malformed is passed over.

    The socket is connected: the system hands over nothing that another address sent, and tells
    when nobody listens there. Raises Unreachable `no-answer`.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Answers(answer, parse, limits.datagrams, counters),
            local_addr=(gateway.own, 0),
            remote_addr=(gateway.host, PORT),
        )
    except OSError as error:
        raise _no_answer(gateway, error.strerror or "no way there") from None
    try:
        for wait_s in limits.tries_s:
            transport.sendto(request)
            done, _ = await asyncio.wait({answer}, timeout=wait_s)
            if done:
                return answer.result()
    except OSError as error:
        raise _no_answer(gateway, error.strerror or "nobody listens there") from None
    finally:
        transport.close()
    raise _no_answer(gateway, "silence")


def _no_answer(gateway: Gateway, why: str) -> Unreachable:
    return Unreachable("no-answer", f"{gateway.host} does not answer: {why}")


class _Answers(asyncio.DatagramProtocol):
    """The first that can be read is the answer; after too many that cannot there is none."""

    def __init__(
        self,
        answer: asyncio.Future[T],
        parse: Callable[[bytes], T],
        most: int,
        counters: Counter[str],
    ) -> None:
        self._answer: asyncio.Future[T] = answer
        self._parse: Callable[[bytes], T] = parse
        self._left = most
        self._counters = counters

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._answer.done():
            return
        try:
            self._answer.set_result(self._parse(data))
        except Malformed as fault:
            self._counters[f"port-mapping-{fault.code}"] += 1
            self._left -= 1
            if not self._left:
                self._answer.set_exception(OSError(0, "nothing but rubbish"))

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)
