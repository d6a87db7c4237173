"""One link: the long-lived stream to a device, with deliveries and acks both ways, pipelined."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from node.delivery.asking import Ask
from node.delivery.handshake import Greeting, say_error
from node.delivery.limits import DeliveryLimits
from node.delivery.rates import Rates
from node.engine import values
from node.engine.delivery_commands import Arrived, Outcome, ReceiveSummary
from schemas.errors import Blame, Fault, Malformed, Unreachable
from schemas.frames import (
    Acked,
    Deferred,
    Deliver,
    ErrorFrame,
    Frame,
    Ping,
    Pong,
    RefusedParcel,
    SummaryFrame,
    decode_frame,
    encode_frame,
)
from schemas.ids import DeviceKey, IdentityKey, ParcelId
from schemas.parcels import Parcel
from schemas.records import Signed
from transport import CloseCode, Connection, ConnectionLost, StreamReset
from transport.supervise import Supervisor

CONNECTION_LOST: Final = "connection-lost"
NOT_ACKNOWLEDGED: Final = "not-acknowledged"
_NEXT_PATH: Final = (CONNECTION_LOST, NOT_ACKNOWLEDGED)  # tried at once: another link, a relay
_MAX_WAIT_MS: Final = 0xFFFF_FFFF

log = logging.getLogger(__name__)


class Link:
    """A connection whose hello was checked. `run` serves it; `send` gives one outcome per parcel.

    `identity` is the person whose credential the peer showed. `retired` links finish what is under
    way and take nothing new.
    """

    def __init__(
        self,
        connection: Connection,
        greeting: Greeting,
        own: DeviceKey,
        ask: Ask,
        limits: DeliveryLimits,
        counters: Counter[str],
        garbage: Rates,
    ) -> None:
        self.connection = connection
        self.peer = connection.peer
        self.identity: IdentityKey = greeting.identity
        self.hello = greeting.hello
        self.dialed = connection.dialed
        self.generation = greeting.generation
        self.retired = False
        self._frames = greeting.frames
        self._largest_frame = greeting.largest_frame
        self._own = own
        self._ask = ask
        self._limits = limits
        self._counters = counters
        self._garbage = garbage
        self._loop = asyncio.get_running_loop()
        self.last_used_at = self._loop.time()
        self._unacked: dict[ParcelId, tuple[float, asyncio.Future[Outcome]]] = {}
        self._ack_timer: asyncio.TimerHandle | None = None
        self._proven_at = self.last_used_at  # when the peer last answered a ping of ours
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._slots = asyncio.Semaphore(limits.arrivals_at_once)
        self._arriving = 0
        self._answers: list[Frame] = []  # to arrivals, not yet written
        self._summaries = 0
        self._requests = 0
        self._writes: set[asyncio.Task[None]] = set()
        self._over = False
        self._tasks = Supervisor(self._crashed)

    @property
    def closed(self) -> bool:
        return self._over or self.connection.closed

    @property
    def idle(self) -> bool:
        """Nothing waits for an answer: no parcel and no request, of ours or of theirs."""
        return not (self._unacked or self._arriving or self._writes or self._requests)

    def __repr__(self) -> str:
        return f"<Link over {self.connection!r}>"

    # --- sending

    async def send(self, parcels: Sequence[Parcel]) -> list[asyncio.Future[Outcome]]:
        """Queue parcels; the one outcome of each comes through its future, which never raises.

        Waits while the peer is slow. The outcome is `connection-lost` when the link ends first,
        `not-acknowledged` when it ends because the peer takes everything and confirms nothing.
        """
        outcomes: list[asyncio.Future[Outcome]] = []
        payloads: list[bytes] = []
        queued: list[ParcelId] = []
        for parcel in parcels:
            outcome: asyncio.Future[Outcome] = self._loop.create_future()
            outcomes.append(outcome)
            payload = encode_frame(Deliver(parcel))
            if len(payload) > self._largest_frame:
                outcome.set_result(Outcome(parcel.id, reason="too-large-for-peer"))
            elif self.closed:
                outcome.set_result(Outcome(parcel.id, reason=CONNECTION_LOST, retry_after_s=0.0))
            elif parcel.id in self._unacked:
                outcome.set_result(Outcome(parcel.id, reason="under-way"))
            else:
                self._unacked[parcel.id] = (self._loop.time(), outcome)
                payloads.append(payload)
                queued.append(parcel.id)
        self._arm_ack_timer()
        try:
            await self._write_payloads(payloads)
        except (ConnectionLost, StreamReset):
            self._settle_unacked(queued, CONNECTION_LOST)
        except BaseException:
            self._settle_unacked(queued, "stopped")
            raise
        return outcomes

    async def send_summary(self, summary: Signed) -> None:
        """Send a summary frame; dropped when the link is gone or its peer does not read."""
        if self._summaries >= self._limits.summaries_at_once:
            self._counters["summary-dropped"] += 1
            return
        self._summaries += 1
        try:
            await self._write(SummaryFrame(summary))
        except (ConnectionLost, StreamReset):
            self._counters["summary-dropped"] += 1
        finally:
            self._summaries -= 1

    async def ping(self, deadline_s: float | None = None) -> float:
        """Round-trip time in seconds through both applications.

        Raises Unreachable `ping-unanswered`, ConnectionLost.
        """
        nonce = secrets.randbits(64)
        answered: asyncio.Future[None] = self._loop.create_future()
        self._pings[nonce] = answered
        deadline_s = self._limits.ping_deadline_s if deadline_s is None else deadline_s
        started = self._loop.time()
        try:
            async with asyncio.timeout(deadline_s):
                await self._write(Ping(nonce))
                await answered
        except TimeoutError:
            raise Unreachable("ping-unanswered", f"no answer for {deadline_s:g} s") from None
        finally:
            self._pings.pop(nonce, None)
        return self._loop.time() - started

    async def flush(self) -> None:
        """Wait a moment until the peer's QUIC has what was written."""
        try:
            await self._frames.stream.drain(self._limits.flush_s)
        except Fault:
            return  # it will not; the parcels' outcomes say so

    def close(self, why: str, code: int = CloseCode.NORMAL) -> None:
        self.connection.close_now(code, why)

    @contextmanager
    def requesting(self) -> Iterator[None]:
        """While a request, of ours or of theirs, is under way on a stream of its own."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self.last_used_at = self._loop.time()

    # --- serving

    async def run(self) -> None:
        """Read frames until the link ends. Raises Fault when the peer broke the protocol."""
        try:
            while (payload := await self._frames.read()) is not None:
                await self._on_frame(decode_frame(payload))
        except (ConnectionLost, StreamReset):
            pass  # the usual end
        except Malformed as fault:
            self._counters[f"link-{fault.code}"] += 1
            log.info("%r broke the protocol: %s", self, fault)
            await say_error(self._frames, fault, self._limits)
            self.close(fault.code, CloseCode.PROTOCOL)
        finally:
            self._end()
            await self._tasks.close(self._limits.flush_s)

    async def _on_frame(self, frame: Frame) -> None:
        match frame:
            case Deliver(parcel):
                self.last_used_at = self._loop.time()
                await self._slots.acquire()
                for _ in range(self._more_slots(parcel)):
                    await self._slots.acquire()
                self._tasks.start(self._arrive(parcel), name="arrival")
            case Acked(parcel):
                self._settle(Outcome(parcel, acked=True))
            case Deferred(parcel, retry_after_ms):
                self._settle(
                    Outcome(parcel, reason="deferred", retry_after_s=retry_after_ms / 1000)
                )
            case RefusedParcel(parcel, code):
                self._settle(Outcome(parcel, refused=code))
            case SummaryFrame(summary):
                await self._slots.acquire()
                self._tasks.start(self._take_summary(summary), name="summary")
            case Ping(nonce):
                await self._write(Pong(nonce))
            case Pong(nonce):
                answered = self._pings.get(nonce)
                if answered is not None and not answered.done():
                    answered.set_result(None)
            case ErrorFrame(code):
                self._counters["link-error-from-peer"] += 1
                log.info("%r: the peer says %r", self, code)
                self.close("error received", CloseCode.PROTOCOL)
            case _:
                raise Malformed("unexpected-frame", f"a {type(frame).__name__} on a link")

    async def _arrive(self, parcel: Parcel) -> None:
        self._arriving += 1
        try:
            answer = await self._judge(parcel)  # `_answers` is another list by then
            self._answers.append(answer)
            # Whoever comes first writes for all that the same commit released.
            if len(self._answers) == 1:
                await asyncio.sleep(0)
                await self._write_answers()
        finally:
            self._arriving -= 1
            for _ in range(1 + self._more_slots(parcel)):
                self._slots.release()

    def _more_slots(self, parcel: Parcel) -> int:
        return len(parcel.sealed) // self._limits.arrival_bytes

    async def _write_answers(self) -> None:
        answers, self._answers = self._answers, []
        try:
            await self._write_payloads([encode_frame(answer) for answer in answers])
        except (ConnectionLost, StreamReset):
            self._counters["ack-not-sent"] += len(answers)  # the peer sends the parcels again

    async def _judge(self, parcel: Parcel) -> Acked | Deferred | RefusedParcel:
        if parcel.recipient != self._own:
            self._counters["arrival-wrong-recipient"] += 1
            self._note_garbage()
            return RefusedParcel(parcel.id, "wrong-recipient")
        try:
            verdict = await self._ask(Arrived(parcel, "direct", self.peer))
        except Fault as fault:
            self._counters[f"arrival-{fault.code}"] += 1
            if fault.blame is Blame.PEER:
                return RefusedParcel(parcel.id, fault.code)
            return Deferred(parcel.id, int(self._limits.engine_failed_s * 1000))
        log.debug("%r came over %r: %s", parcel.id, self, type(verdict).__name__)
        match verdict:
            case values.Accepted():
                return Acked(parcel.id)
            case values.Deferred(retry_after_s):
                self._counters["arrival-deferred"] += 1
                return Deferred(parcel.id, min(int(retry_after_s * 1000), _MAX_WAIT_MS))
            case values.Rejected(code, garbage=garbage):
                self._counters[f"arrival-{code}"] += 1
                if garbage:
                    self._note_garbage()
                return RefusedParcel(parcel.id, code)

    def _note_garbage(self) -> None:
        if not self.closed and self._garbage.take(self.peer):
            self._counters["link-garbage"] += 1
            log.info("%r: too many parcels that do not open", self)
            self.close("too many parcels that do not open", CloseCode.PROTOCOL)

    async def _take_summary(self, summary: Signed) -> None:
        try:
            await self._ask(ReceiveSummary(self.peer, summary))
        except Fault as fault:
            self._counters[f"summary-{fault.code}"] += 1
        finally:
            self._slots.release()

    # --- inside

    async def _write(self, frame: Frame) -> None:
        await self._write_payloads([encode_frame(frame)])

    async def _write_payloads(self, payloads: Sequence[bytes]) -> None:
        # Shielded: a writer that is cancelled half-way would leave half a frame on the stream.
        self.last_used_at = self._loop.time()
        write = asyncio.ensure_future(self._frames.write_all(payloads))
        self._writes.add(write)
        write.add_done_callback(self._written)
        await asyncio.shield(write)

    def _written(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # retrieved: its caller may be gone; the link's end says the same

    def _settle(self, outcome: Outcome) -> None:
        _, waiting = self._unacked.pop(outcome.parcel, (0.0, None))
        if waiting is None:
            self._counters["ack-for-nothing"] += 1  # late, repeated, or made up
        elif not waiting.done():
            waiting.set_result(outcome)

    def _settle_unacked(self, parcels: Sequence[ParcelId], reason: str) -> None:
        for parcel in parcels:
            if parcel in self._unacked:  # an ack may have been faster than our own write's end
                at_once = 0.0 if reason in _NEXT_PATH else None
                self._settle(Outcome(parcel, reason=reason, retry_after_s=at_once))

    def _arm_ack_timer(self) -> None:
        if self._ack_timer is None and self._unacked:
            oldest, _ = next(iter(self._unacked.values()))
            soonest = max(oldest, self._heard_at) + self._limits.doubt_s
            self._ack_timer = self._loop.call_at(soonest, self._on_ack_timer)

    def _on_ack_timer(self) -> None:
        self._ack_timer = None
        if not self._unacked:
            return
        now = self._loop.time() + 1e-6
        oldest, _ = next(iter(self._unacked.values()))
        if now >= oldest + self._limits.ack_deadline_s:
            self._counters["link-stalled"] += 1
            self._settle_unacked(list(self._unacked), NOT_ACKNOWLEDGED)
            self.close("no acknowledgements")  # a link that does not work must not look as if
        elif now >= max(oldest, self._heard_at) + self._limits.doubt_s:
            self._tasks.start(self._prove(), name="proof")
        else:
            self._arm_ack_timer()

    @property
    def _heard_at(self) -> float:
        """When the peer gave its last sign of life (loop time)."""
        return max(self._proven_at, self.connection.last_heard_at)

    async def _prove(self) -> None:
        """Somebody is there, or the link ends: QUIC alone takes its whole idle timeout to say."""
        try:
            # Not a frame: that would wait behind half a MiB of parcel on a slow line.
            await self.connection.ping(self._limits.proof_s)
        except (Unreachable, ConnectionLost):
            self._counters["link-dead"] += 1
            self.close("no answer")
            return
        self._proven_at = self._loop.time()
        self._arm_ack_timer()

    def _end(self) -> None:
        self._over = True
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        self._settle_unacked(list(self._unacked), CONNECTION_LOST)
        for answered in self._pings.values():
            if not answered.done():
                answered.set_exception(
                    Unreachable("ping-unanswered", "the link ended before the answer")
                )
        self.connection.close_now(CloseCode.NORMAL, "the link ended")

    def _crashed(self, name: str) -> None:
        self._counters[f"{name}-crashed"] += 1
