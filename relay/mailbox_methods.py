"""The methods on mailboxes: bring, look, take, wait, subscribe."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.admission import Admission
from relay.call import Call
from relay.callers import Callers
from relay.channel_methods import ChannelMethods
from relay.limits import LONGEST_WAIT_S, PUSH_DEADLINE_S
from relay.memory import answering
from relay.refusals import TryLater, error_frame
from relay.store.contract import MAX_NUMBER, MailboxName, RelayStore
from relay.store.delivery_tokens import Bringer
from relay.subscriptions import Subscription, Subscriptions
from schemas import limits
from schemas.capnp_codec import blaming_the_peer, exactly, items
from schemas.errors import Fault, Malformed, Refused
from schemas.frames import fill_error
from schemas.ids import DeviceKey
from schemas.node_service import (
    Enqueued,
    EnqueueItem,
    Mailbox,
    fill_enqueue_result,
    fill_mailbox,
    read_channel,
    read_enqueue_item,
)

log = logging.getLogger(__name__)

REPLY_BYTES: Final = limits.FRAME - 64 * limits.KIB  # a client's transport reads 1 MiB at once
RECEIPT_DEADLINE_S: Final = 30.0
MAX_OPENED: Final = 64  # mailboxes (channels) of one connection that are marked as opened


class MailboxMethods:
    """They raise Fault to refuse. `clock` gives Unix seconds; `refusals` counts by code."""

    def __init__(
        self,
        store: RelayStore,
        callers: Callers,
        admission: Admission,
        channels: ChannelMethods,
        subscriptions: Subscriptions,
        *,
        parcel_ttl_s: int,
        clock: Callable[[], float],
        refusals: Counter[str],
    ) -> None:
        self._store = store
        self._callers = callers
        self._admission = admission
        self._channels = channels
        self._subscriptions = subscriptions
        self._parcel_ttl_s = parcel_ttl_s
        self._clock = clock
        self._refusals = refusals
        self._stopping = asyncio.Event()

    # Bringing

    async def enqueue(self, call: Call) -> None:
        with call.request() as params:
            item = read_enqueue_item(params.item)
        call.caller.use(size=len(item.sealed))
        [outcome] = await self._keep(call, [item])
        self._tell(call.results.init("result"), outcome)
        if isinstance(outcome, Refused):
            fill_error(call.results.init("error"), error_frame(outcome))

    async def batch_enqueue(self, call: Call) -> None:
        with call.request() as params:
            batch = items(params.items, limits.BATCH_ITEMS, _read_item_or_fault)
        read = [item for item in batch if isinstance(item, EnqueueItem)]
        call.caller.use(calls=len(batch) - 1, size=sum(len(item.sealed) for item in read))
        outcomes = await self._keep(call, batch)
        slots = call.results.init("results", len(batch))
        for slot, outcome in zip(slots, outcomes, strict=True):
            self._tell(slot, outcome)

    async def _keep(
        self, call: Call, brought: Sequence[EnqueueItem | Fault]
    ) -> list[Enqueued | Fault]:
        """Store what may be stored; an outcome for each."""
        now = int(self._clock())
        items = [item for item in brought if isinstance(item, EnqueueItem)]
        names = [MailboxName(item.recipient, item.channel) for item in items]
        refusals = iter(await self._channels.refusals(call.device, names))
        admitted = [
            (next(refusals) or self._admitted(item, now)) if isinstance(item, EnqueueItem) else item
            for item in brought
        ]
        good = [item for item in admitted if isinstance(item, EnqueueItem)]
        by = await self._bringer(call)
        outcomes = await self._store.enqueue(good, now=now, by=by) if good else ()
        for item, outcome in zip(good, outcomes, strict=True):
            if isinstance(outcome, Enqueued):
                self._callers.use_brought(item)
        stored = iter(outcomes)
        return [next(stored) if isinstance(item, EnqueueItem) else item for item in admitted]

    async def _bringer(self, call: Call) -> Bringer:
        admitted = await self._admission.admits(call)
        return Bringer(call.device, admitted=admitted, making=not self._admission.by_invitation)

    def _admitted(self, item: EnqueueItem, now: int) -> EnqueueItem | Refused:
        """The item as it will be kept, unless it is too late for it, or too early."""
        if item.expires <= now:
            return Refused(
                "parcel-expired", "the parcel has expired", hint="send the message again"
            )
        try:
            self._callers.check_brought(item)
        except TryLater as refusal:
            return refusal
        until = now + self._parcel_ttl_s
        return item if item.expires <= until else replace(item, expires=until)

    def _tell(self, result: Any, outcome: Enqueued | Fault) -> None:
        """Fill in a result, and count it if it is a refusal."""
        if isinstance(outcome, Enqueued):
            fill_enqueue_result(result, outcome)
        else:
            self._refusals[outcome.code] += 1
            fill_enqueue_result(result, error_frame(outcome))

    async def set_delivery_tokens(self, call: Call) -> None:
        with call.request() as params:
            hashes = items(params.hashes, limits.DELIVERY_TOKENS, lambda each: exactly(each, 32))
            optional = params.optional
        await self._admission.introduce(call)
        await self._store.delivery_tokens.set(
            call.device, hashes, optional=optional, now=int(self._clock())
        )

    # Reading; the parcels stay

    async def peek(self, call: Call) -> None:
        with call.request() as params:
            name = _read_mailbox_name(params)
            after = min(params.after, MAX_NUMBER)
            limit = _read_limit(params)
        await self._require_own(call, name)
        await self._open(call, name)
        self._answer(call, name, await self._look(call, name, limit, after=after))

    async def ack(self, call: Call) -> None:
        with call.request() as params:
            name = _read_mailbox_name(params)
            sequences = items(params.sequences, limits.MAILBOX_PARCELS, int)
        await self._require_own(call, name)
        known = [sequence for sequence in sequences if sequence <= MAX_NUMBER]
        call.results.acknowledged = await self._store.acknowledge(name, known)

    async def subscribe(self, call: Call) -> None:
        with call.request() as params:
            name = MailboxName(DeviceKey(params.recipientKey))
            after = min(params.after, MAX_NUMBER)
            if not params._has("sink"):
                raise ValueError("nowhere to push to")
            sink = call.line.rpc.service(params.sink, deadline_s=PUSH_DEADLINE_S)
        await self._require_own(call, name)
        await self._open(call, name)
        self._subscriptions.start(Subscription(call.caller, call.line, name, after, sink))

    # Taking: what was handed out is deleted once the caller's machine has it

    async def fetch(self, call: Call) -> None:
        with call.request() as params:
            name = _read_mailbox_name(params)
            limit = _read_limit(params)
        await self._require_own(call, name)
        await self._open(call, name)
        await self._taken(call, name)
        await self._hand_out(call, name, await self._look(call, name, limit))

    async def fetch_wait(self, call: Call) -> None:
        with call.request() as params:
            name = _read_mailbox_name(params)
            limit = _read_limit(params)
            timeout_s = min(params.timeoutMs / 1000, LONGEST_WAIT_S)
        await self._require_own(call, name)
        caller = call.caller
        if caller.waits >= self._callers.limits.waits_per_connection:
            raise TryLater(
                "too-many-waits",
                f"one connection may wait {caller.waits} times at once",
                retry_after_ms=1_000,
                hint="wait for the answers first",
            )
        caller.waits += 1
        try:
            await self._open(call, name)
            await self._taken(call, name)
            mailbox = await self._await_mail(call, name, limit, timeout_s)
        finally:
            caller.waits -= 1
        await self._hand_out(call, name, mailbox)

    async def _await_mail(
        self, call: Call, name: MailboxName, limit: int, timeout_s: float
    ) -> Mailbox:
        until = asyncio.get_running_loop().time() + timeout_s
        with self._store.arrivals.watch(name) as arrival:
            while True:
                arrival.clear()
                mailbox = await self._look(call, name, limit)
                if mailbox.parcels or self._stopping.is_set():
                    return mailbox
                try:
                    async with asyncio.timeout_at(until):
                        await arrival.wait()
                except TimeoutError:
                    return mailbox

    def stop_waiting(self) -> None:
        """Answer every fetchWait with what there is."""
        self._stopping.set()
        self._store.arrivals.wake_all()

    async def _hand_out(self, call: Call, name: MailboxName, mailbox: Mailbox) -> None:
        self._answer(call, name, mailbox)
        if mailbox.parcels:
            taken = [parcel.sequence for parcel in mailbox.parcels]
            work = self._delete_when_received(call, name, taken)
            call.caller.taking[name] = call.caller.start(work, name="fetched")

    async def _taken(self, call: Call, name: MailboxName) -> None:
        """What this connection was handed before is gone, or will not go."""
        task = call.caller.taking.pop(name, None)
        if task is not None:
            await asyncio.wait([task])

    async def _delete_when_received(self, call: Call, name: MailboxName, taken: list[int]) -> None:
        """Nothing is deleted that may be lost on the way; so it may be handed out twice."""
        try:
            await call.line.rpc.answered(RECEIPT_DEADLINE_S)
            await call.line.stream.drain(RECEIPT_DEADLINE_S)
            await self._store.acknowledge(name, taken)
        except Fault as fault:
            log.debug("%d fetched parcels stay: %s", len(taken), fault)

    # Inside

    async def _require_own(self, call: Call, name: MailboxName) -> None:
        if name.recipient != call.device:
            raise Refused(
                "not-your-mailbox",
                "a mailbox opens to its own device only",
                hint="connect with the device key that the mailbox belongs to",
            )
        await self._channels.require(call.device, name)

    async def _open(self, call: Call, name: MailboxName) -> None:
        """The first look of a connection makes the mailbox its owner's, if there is room.

        A further one forgets the refusal that the owner has seen, if there is room again.
        """
        caller = call.caller
        told = caller.told_refusal.pop(name, 0)
        if told:
            await self._store.forget_refusal(name, told)
        if name in caller.opened or len(caller.opened) >= MAX_OPENED:
            return
        await self._admission.introduce(call)
        try:
            await self._store.open_mailbox(name, now=int(self._clock()))
        except Fault as fault:  # a relay without room, or with a full disk, can still be read
            log.debug("a mailbox was not opened: %s", fault)
        caller.opened.add(name)

    async def _look(self, call: Call, name: MailboxName, limit: int, *, after: int = 0) -> Mailbox:
        async with answering(call, REPLY_BYTES) as answer:
            mailbox = await self._store.peek(
                name, after=after, limit=limit, max_bytes=REPLY_BYTES, now=int(self._clock())
            )
            answer.size = sum(len(parcel.sealed) for parcel in mailbox.parcels)
            return mailbox

    def _answer(self, call: Call, name: MailboxName, mailbox: Mailbox) -> None:
        caller = call.caller
        caller.use(size=sum(len(parcel.sealed) for parcel in mailbox.parcels))
        fill_mailbox(call.results, mailbox)
        if mailbox.refused_since and name in caller.opened:
            caller.told_refusal[name] = mailbox.refused_since


def _read_mailbox_name(params: Any) -> MailboxName:
    return MailboxName(DeviceKey(params.recipientKey), read_channel(params.channelId))


def _read_limit(params: Any) -> int:
    return min(params.limit or limits.MAILBOX_PARCELS, limits.MAILBOX_PARCELS)


def _read_item_or_fault(reader: Any) -> EnqueueItem | Malformed:
    """One bad item must not sink the batch."""
    try:
        with blaming_the_peer("parcel"):
            return read_enqueue_item(reader)
    except Malformed as fault:
        return fault
