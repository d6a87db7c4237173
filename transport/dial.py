"""The race for a peer: candidate addresses staggered, first proven answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from schemas.addresses import Address
from schemas.errors import Blame, Fault, Refused, Unreachable

from .errors import ConnectionLost, EndedBy
from .hello import not_post_quantum

# Later in the list tells the user more; of several failures the most telling is raised.
_TELLING = (
    "no-answer",
    "no-route",
    "name-not-found",
    "connection-lost",
    "peer-busy",
    "handshake-failed",
    "wrong-alpn",
    "not-post-quantum",
    "certificate-refused",
    "wrong-peer",
)

_CERTIFICATE_ALERTS = frozenset(
    {
        AlertDescription.bad_certificate,
        AlertDescription.unsupported_certificate,
        AlertDescription.certificate_expired,
        AlertDescription.certificate_required,
        AlertDescription.decrypt_error,
        AlertDescription.access_denied,
    }
)


T = TypeVar("T")
Tried = Callable[[Address, Fault | None], None]


def ignore(_: Address, __: Fault | None) -> None:
    """A `Tried` that does not want to know."""


async def race(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    *,
    stagger_s: float,
    deadline_s: float,
    discard: Callable[[T], None],
) -> T:
    """Start the attempts `stagger_s` apart, or as soon as the one before has failed.

    Returns what the first one brings; the others are cancelled, and `discard` gets what came second
    in the same instant. Raises the most telling Fault of all, Unreachable
    `no-answer` when `deadline_s` passes.
    """
    failures: list[Fault] = []
    running: set[asyncio.Future[T]] = set()
    waiting = list(attempts)
    winner: T | None = None
    try:
        async with asyncio.timeout(deadline_s):
            while winner is None and (waiting or running):
                if waiting:
                    running.add(asyncio.ensure_future(waiting.pop(0)()))
                done, running = await asyncio.wait(
                    running,
                    timeout=stagger_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                winner = _collect(done, failures, discard)
    except TimeoutError:
        failures.append(Unreachable("no-answer", f"No answer within {deadline_s:g} s"))
    finally:
        for task in running:
            task.cancel()
        if running:
            late, _ = await asyncio.wait(running)
            extra = _collect(late, failures, discard)
            if extra is not None:
                discard(extra)
    if winner is not None:
        return winner
    raise max(
        failures, key=_tells, default=Unreachable("no-answer", "There was no address to dial")
    )


def _collect(
    done: set[asyncio.Future[T]],
    failures: list[Fault],
    discard: Callable[[T], None],
) -> T | None:
    winner: T | None = None
    for task in done:
        if task.cancelled():
            continue
        error = task.exception()
        if isinstance(error, Fault):
            failures.append(error)
        elif error is not None:
            raise error
        elif winner is None:
            winner = task.result()
        else:
            discard(task.result())
    return winner


def _tells(fault: Fault) -> int:
    return _TELLING.index(fault.code) if fault.code in _TELLING else len(_TELLING)


def dial_fault(error: Fault, *, post_quantum_only: bool = False) -> Fault:
    """What a failed handshake means to whoever dialled, with X25519MLKEM768 alone or not."""
    if not isinstance(error, ConnectionLost) or error.reason is None:
        if error.code.startswith(("certificate-", "no-certificate-request")):
            return Refused(
                "certificate-refused",
                f"The peer's handshake was refused: {error.message}",
                blame=Blame.PEER,
                hint=error.hint,
            )
        return error
    reason = error.reason
    alert = reason.code - int(QuicErrorCode.CRYPTO_ERROR)
    if reason.by is EndedBy.SILENCE:
        return Unreachable("no-answer", "The peer fell silent during the handshake")
    if reason.by is EndedBy.LOCAL:
        return error
    if alert == AlertDescription.no_application_protocol:
        return Refused(
            "wrong-alpn",
            "The peer does not speak this protocol",
            blame=Blame.INCOMPATIBLE,
            hint="Is it a relay where a node was meant, or another version?",
        )
    if alert in _CERTIFICATE_ALERTS:
        who = "The peer refused our" if reason.by is EndedBy.PEER else "We refused the peer's"
        return Refused("certificate-refused", f"{who} proof of identity", blame=Blame.PEER)
    failure = alert == AlertDescription.handshake_failure
    if post_quantum_only and failure and reason.by is EndedBy.PEER:
        return not_post_quantum()  # nothing else is negotiated in which two versions could differ
    if reason.code == QuicErrorCode.CONNECTION_REFUSED:
        return Unreachable("peer-busy", "The peer takes no more connections now")
    return Refused("handshake-failed", f"The handshake failed: {reason}", blame=Blame.PEER)
