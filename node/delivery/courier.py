"""A courier carries one recipient's due parcels: directly while linked, else to their relay."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from identity.envelope import seal_all
from node.delivery.anonymous_relays import AnonymousRelays
from node.delivery.asking import Ask
from node.delivery.departures import Departures
from node.delivery.dialer import Dialer
from node.delivery.limits import DeliveryLimits
from node.delivery.link import CONNECTION_LOST
from node.delivery.links import Links
from node.delivery.obtain import Obtainer, parse_relays
from node.delivery.outcomes import OutcomeDesk
from node.delivery.path_rules import forbidden
from node.delivery.patience import Patience
from node.delivery.relay_client import RelayClient, RelayRefused
from node.delivery.relay_moves import RelayMoves
from node.delivery.relay_pool import WRONG_PEER
from node.delivery.token_choice import TOKEN_REFUSED, TokenChoice
from node.delivery.turns import Turns
from node.engine.delivery_commands import LookUpPeer, Outcome, TakeDue
from node.engine.values import OutboxItem, PeerView
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Malformed, Unreachable
from schemas.frames import ErrorFrame
from schemas.ids import DeviceKey, ParcelId
from schemas.limits import KIB
from schemas.node_service import Enqueued, EnqueueItem
from schemas.parcels import Parcel, pad
from schemas.path_policy import PathPolicy
from transport import ConnectionLost
from transport.supervise import Supervisor

STOPPED = "stopped"
RELAY_UNREACHABLE = "relay-unreachable"
RELAY_KEY_CHANGED = "relay-key-changed"
_WRITE_BYTES = 256 * KIB  # sealed at once: not more than the stream takes anyway

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What couriers work with."""

    ask: Ask
    links: Links
    dialer: Dialer
    anonymous: AnonymousRelays
    departures: Departures
    tokens: TokenChoice
    obtainer: Obtainer
    moves: RelayMoves
    desk: OutcomeDesk
    limits: DeliveryLimits
    counters: Counter[str]


class Couriers:
    """One courier per recipient with due parcels; it ends when nothing is due."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._couriers: dict[DeviceKey, _Courier] = {}
        self._turns = Turns(means.limits.take_at_once)
        self._patience = Patience(means.limits, asyncio.get_running_loop().time)
        self._tasks = Supervisor(self._crashed)
        self._closing = False

    @property
    def busy(self) -> bool:
        return bool(self._couriers)

    def wake(self, devices: Iterable[DeviceKey]) -> None:
        """These devices have parcels due."""
        for device in devices:
            courier = self._couriers.get(device)
            if courier is not None:
                courier.wake()
            elif not self._closing:
                courier = self._couriers[device] = _Courier(
                    device, self._means, self._turns, self._patience, self._crowded
                )
                self._tasks.start(self._run(device, courier), name="courier")

    def _crowded(self) -> bool:
        """More couriers than turns: each takes little at a time."""
        return len(self._couriers) > self._means.limits.take_at_once

    async def close(self) -> None:
        """Stop; every parcel that is out gets its outcome."""
        self._closing = True
        for courier in self._couriers.values():
            courier.stop()
        await self._tasks.close(self._means.limits.flush_s)

    async def _run(self, device: DeviceKey, courier: _Courier) -> None:
        try:
            await courier.run()
        except Fault as fault:
            # The engine refused (it stops, or the disk is full): its next OutboxReady starts anew.
            self._means.counters[f"courier-{fault.code}"] += 1
            log.info("courier for %r: %s", device, fault)
        finally:
            if self._couriers.get(device) is courier:
                del self._couriers[device]

    def _crashed(self, name: str) -> None:
        self._means.counters[f"{name}-crashed"] += 1


class _Courier:
    def __init__(
        self,
        device: DeviceKey,
        means: Means,
        turns: Turns,
        patience: Patience,
        crowded: Callable[[], bool],
    ) -> None:
        self._device = device
        self._patience = patience
        self._crowded = crowded
        self._turns = turns
        self._newcomer = True  # has not had a turn yet
        self._means = means
        self._limits = means.limits
        self._out: dict[ParcelId, OutboxItem] = {}  # taken, and without an outcome yet
        self._out_bytes = 0
        self._stir = asyncio.Event()  # an outcome came, or more is due
        self._more = True
        self._stopping = False
        self._asked_for_bundle = False
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self._more = True
        self._stir.set()

    def stop(self) -> None:
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                self._stir.clear()
                if self._more and self._has_room:
                    await self._carry()
                elif self._more or self._out:
                    await self._stir.wait()
                else:
                    return
        finally:
            for parcel in list(self._out):
                self._settle(Outcome(parcel, reason=STOPPED))

    @property
    def _has_room(self) -> bool:
        limits = self._limits
        return len(self._out) <= limits.window // 2 and self._out_bytes <= limits.window_bytes // 2

    async def _carry(self) -> None:
        dialer = self._means.dialer
        # A message waits for the first attempt; the next ones go on while the relay has it.
        wait_s = 0.0 if dialer.failing(self._device) else self._patience.wait_s(self._device)
        link = await dialer.reach(self._device, wait_s)
        self._more = False
        async with self._turns.turn(newcomer=self._newcomer):
            self._newcomer = False
            items = await self._take()
        if not items:
            return
        items = await self._with_keys(items)
        linked = link is not None and not link.closed
        relays: list[RelayAddress] = []
        peer: PeerView | None = None
        if items and (not linked or self._patience.at_an_end(self._device)):
            peer = await self._means.ask(LookUpPeer(self._device))
            relays = parse_relays(peer) if peer.policy.by_relay else []
            if not peer.policy.by_relay and not linked:
                self._wait_for_path(items, peer.policy)
                return
        if relays and peer is not None:
            self._means.moves.left_at(peer)
            await self._means.departures.turn(self._device)
            if not await self._leave_at_relay(relays, items, peer.tokens):
                self._means.moves.refused(peer)
        elif linked:
            await self._hand_over(items)
        else:
            lost = link is not None  # since we asked for it: dialled at once
            reason = CONNECTION_LOST if lost else self._means.dialer.why_not(self._device)
            for item in items:
                again = 0.0 if lost else None
                self._settle(Outcome(item.parcel, reason=reason, retry_after_s=again))

    def _wait_for_path(self, items: Iterable[OutboxItem], policy: PathPolicy) -> None:
        """No path that the policy allows is open: it is tried again, and the user told why."""
        for item in items:
            self._settle(Outcome(item.parcel, reason=forbidden(policy).code))

    async def _take(self) -> list[OutboxItem]:
        """Due parcels that are not out already: the engine forgets one after a while.

        Also when cancelled meanwhile, what was taken gets its outcome.
        """
        limits = self._limits
        most = limits.take_crowded if self._crowded() else limits.take
        limit = min(most, limits.window - len(self._out))
        taking = asyncio.ensure_future(self._means.ask(TakeDue(self._device, limit)))
        try:
            items = await asyncio.shield(taking)
        except asyncio.CancelledError:
            for item in self._fresh(await taking):
                self._means.desk.report(Outcome(item.parcel, reason=STOPPED))
            raise
        if items:
            self._more = True
        fresh = self._fresh(items)
        for item in fresh:
            self._out[item.parcel] = item
            self._out_bytes += len(item.body)
        return fresh

    def _fresh(self, items: Iterable[OutboxItem]) -> list[OutboxItem]:
        return [item for item in items if item.parcel not in self._out]

    async def _with_keys(self, items: list[OutboxItem]) -> list[OutboxItem]:
        """Those that can be sealed; the others wait for the recipient's bundle."""
        keyless = [item for item in items if item.hybrid_key is None]
        if keyless:
            came = False
            if not self._asked_for_bundle:
                self._asked_for_bundle = True
                peer = await self._means.ask(LookUpPeer(self._device))
                if peer.identity is not None:
                    came = await self._means.obtainer.bundle(
                        peer.identity, [self._device], dial=False
                    )
            for item in keyless:
                again = 0.0 if came else None
                self._settle(Outcome(item.parcel, reason="no-hybrid-key", retry_after_s=again))
        return [item for item in items if item.hybrid_key is not None]

    def _seal(self, items: Sequence[OutboxItem]) -> list[Parcel]:
        """Sealed at transmission; none, with outcomes, when that is impossible.

        Several get one header: that shows they left together, to who sees them leave together.
        """
        try:
            sealed = seal_all(items[0].hybrid_key or b"", [pad(item.body) for item in items])
        except Malformed as fault:
            for item in items:
                self._settle(Outcome(item.parcel, reason=fault.code))
            return []
        return [
            Parcel(item.parcel, item.recipient, item.expires, envelope)
            for item, envelope in zip(items, sealed, strict=True)
        ]

    # --- directly

    async def _hand_over(self, items: list[OutboxItem]) -> None:
        waiting = deque(items)
        while waiting:
            await asyncio.sleep(0)  # sealing takes its time: other couriers and acks go on
            link = self._means.links.get(self._device)  # it may have been replaced meanwhile
            if link is None:
                parcel = waiting.popleft().parcel
                self._settle(Outcome(parcel, reason=CONNECTION_LOST, retry_after_s=0.0))
                continue
            together: list[OutboxItem] = []
            size = 0
            while waiting and len(together) < self._limits.frames_per_write and size < _WRITE_BYTES:
                together.append(waiting.popleft())
                size += len(together[-1].body)
            for sent in await link.send(self._seal(together)):
                sent.add_done_callback(lambda done: self._settle_direct(done.result()))

    def _settle_direct(self, outcome: Outcome) -> None:
        self._patience.note(self._device, outcome)
        self._settle(outcome)

    # --- by relay

    async def _leave_at_relay(
        self, relays: list[RelayAddress], items: list[OutboxItem], tokens: Sequence[bytes]
    ) -> bool:
        """Whether all of it was taken."""
        batch: list[Parcel] = []
        size = 0
        taken = True
        for item in items:
            for parcel in self._seal([item]):  # a relay learns no more than when each came
                full = len(batch) >= self._limits.relay_batch_items
                if batch and (full or size + len(parcel.sealed) > self._limits.relay_batch_bytes):
                    taken &= await self._enqueue(relays, batch, tokens)
                    batch, size = [], 0
                batch.append(parcel)
                size += len(parcel.sealed)
        if batch:
            taken &= await self._enqueue(relays, batch, tokens)
        return taken

    async def _enqueue(
        self, relays: Iterable[RelayAddress], batch: list[Parcel], tokens: Sequence[bytes]
    ) -> bool:
        """At the first of the relays that takes them, each parcel for itself; whether all were."""
        refusals: dict[ParcelId, tuple[str, float | None]] = {}
        for relay in relays:
            left = [p for p in batch if p.id in self._out]
            if not left:
                return True
            try:
                process, results = await self._bring_to(relay, left, tokens)
            except Fault as fault:
                self._means.counters[f"enqueue-{fault.code}"] += 1
                log.info("%r took nothing: %s", relay, fault)
                code = RELAY_KEY_CHANGED if fault.code == WRONG_PEER else RELAY_UNREACHABLE
                if isinstance(fault, RelayRefused):
                    code = fault.code
                for parcel in left:
                    refusals.setdefault(parcel.id, (code, None))
                continue
            for parcel, result in zip(left, results, strict=True):
                if isinstance(result, ErrorFrame):
                    self._means.counters[f"enqueue-{result.code}"] += 1
                    wait = result.retry_after_ms / 1000 if result.retry_after_ms else None
                    refusals[parcel.id] = (result.code, wait)
                else:
                    self._settle(Outcome(parcel.id, held=(str(process), result.expires)))
        left = [p for p in batch if p.id in self._out]
        for parcel in left:
            reason, wait = refusals.get(parcel.id, (RELAY_UNREACHABLE, None))
            self._settle(Outcome(parcel.id, reason=reason, retry_after_s=wait))
        return not left

    async def _bring_to(
        self, relay: RelayAddress, batch: Sequence[Parcel], tokens: Sequence[bytes]
    ) -> tuple[RelayAddress, list[Enqueued | ErrorFrame]]:
        """Which process took them. Where there are several, one that is lost is not the last."""
        try:
            return await self._bring_once(relay, batch, tokens)
        except (ConnectionLost, Unreachable):
            if not relay.others:
                raise
            self._means.counters["enqueue-elsewhere"] += 1
            return await self._bring_once(relay, batch, tokens)

    async def _bring_once(
        self, relay: RelayAddress, batch: Sequence[Parcel], tokens: Sequence[bytes]
    ) -> tuple[RelayAddress, list[Enqueued | ErrorFrame]]:
        async with self._means.anonymous.client(relay, self._device) as client:
            return client.address, await self._bring(client, batch, tokens)

    async def _bring(
        self, client: RelayClient, batch: Sequence[Parcel], tokens: Sequence[bytes]
    ) -> list[Enqueued | ErrorFrame]:
        """One result per parcel. What one delivery token does not open, the next one may."""
        choice = self._means.tokens
        results: dict[ParcelId, Enqueued | ErrorFrame] = {}
        left = list(batch)
        for token in choice.order(self._device, tokens) or [b""]:
            answers = await client.enqueue(
                [EnqueueItem(p.recipient, p.id, p.expires, p.sealed, token=token) for p in left]
            )
            results |= {p.id: answer for p, answer in zip(left, answers, strict=True)}
            refused = [p for p in left if _token_refused(results[p.id])]
            if len(refused) < len(left):
                choice.worked(self._device, token)
            left = refused
            if not left:
                break
        return [results[p.id] for p in batch]

    def _settle(self, outcome: Outcome) -> None:
        """The one outcome of a parcel that is out; whatever comes after it is dropped."""
        item = self._out.pop(outcome.parcel, None)
        if item is not None:
            self._out_bytes -= len(item.body)
            self._means.desk.report(outcome)
            self._stir.set()


def _token_refused(result: Enqueued | ErrorFrame) -> bool:
    return isinstance(result, ErrorFrame) and result.code == TOKEN_REFUSED
