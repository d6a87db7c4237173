"""What node/delivery does with sockets, done with the simulated network: dial, carry, answer.

One courier for all recipients of a machine. Its rules are those of node/delivery: a parcel that was
taken gets one outcome; who cannot be dialled within 1.5 s gets it by relay; dialling goes on in the
background; a link that ends gives back what was not acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.delivery.courier import RELAY_UNREACHABLE
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS as LIMITS
from node.delivery.link import CONNECTION_LOST
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.errors import Blame, Fault
from schemas.frames import Hello
from schemas.ids import DeviceKey, ParcelId
from schemas.parcels import Parcel, pad
from schemas.records import Signed
from simulation.world.network import Link

if TYPE_CHECKING:
    from simulation.world.machine import Machine

NO_ANSWER = "no-answer"
DIAL_TRIPS = 3  # one-way trips until a hello is there
GREET_S = 1.0  # news of the network travels (mDNS, addresses)
_OBSERVED = "192.0.2.1:7000"


@dataclass(slots=True)
class _Pursuit:
    failures: int = 0
    not_before: float = 0.0
    wanted_until: float = 0.0
    under_way: bool = False


class Courier:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._network = machine.world.network
        self._clock = machine.world.clock
        self.links: dict[DeviceKey, Link] = {}
        self._pursuits: dict[DeviceKey, _Pursuit] = {}
        self._carrying: set[DeviceKey] = set()
        self._more: dict[DeviceKey, None] = {}
        self._out: dict[ParcelId, Link | None] = {}
        self._outcomes: list[d.Outcome] = []
        self._asked_for_bundle: set[DeviceKey] = set()

    def begin(self) -> None:
        self._machine.after(0.0, self._attend_relay)

    # --- links

    def look_around(self) -> None:
        """After a start, a wake or a change of network: links that died are found dead, failures
        of the past do not count, and those who know us are greeted."""
        for link in list(self.links.values()):
            if not self._network.alive(link):
                self._network.end(link, 0.0)
        for device, pursuit in self._pursuits.items():
            pursuit.failures, pursuit.not_before = 0, 0.0
            if pursuit.wanted_until > self._clock.now:
                self._dial(device)
        self._machine.submit(d.PeersToGreet(LIMITS.greet), self._greet)
        for device in list(self._more):
            self._start(device)
        self._attend_relay()

    def _greet(self, devices: tuple[DeviceKey, ...] | Fault) -> None:
        if not isinstance(devices, Fault):
            for device in devices:
                if device not in self.links:
                    self._want(device, 0.0)

    def silence(self) -> None:
        """The machine sleeps or crashed: its peers notice after a while."""
        for link in list(self.links.values()):
            self._network.end(link, None)

    def drop(self, device: DeviceKey) -> None:
        link = self.links.get(device)
        if link is not None:
            self._network.end(link, 0.0)

    def _want(self, device: DeviceKey, seconds: float) -> _Pursuit:
        pursuit = self._pursuits.setdefault(device, _Pursuit())
        pursuit.wanted_until = max(pursuit.wanted_until, self._clock.now + seconds)
        if not pursuit.under_way and pursuit.not_before <= self._clock.now:
            self._dial(device)
        return pursuit

    def _dial(self, device: DeviceKey) -> None:
        pursuit = self._pursuits[device]
        if pursuit.under_way or device in self.links:
            return
        pursuit.under_way = True
        peer = self._network.find(self._machine, device)
        if peer is None:
            self._machine.after(LIMITS.relay_fallback_s, lambda: self._failed(device))
            return
        trips = sum(self._network.latency() for _ in range(DIAL_TRIPS))
        self._machine.after(trips, lambda: self._shake_hands(device, peer))

    def _shake_hands(self, device: DeviceKey, peer: Machine) -> None:
        """Each asks its engine for a hello; when both are there, the link is."""
        if device in self.links:
            self._pursuits[device].under_way = False
            return
        if not self._network.connected(self._machine, peer):
            self._failed(device)
            return
        hellos: dict[Machine, Hello] = {}

        def said(machine: Machine, hello: Hello | Fault) -> None:
            if isinstance(hello, Fault) or device in self.links:
                return
            hellos[machine] = hello
            if len(hellos) == 2 and self._network.connected(self._machine, peer):
                link = self._network.join(self._machine, peer)
                self.linked(link, peer, hellos[peer])
                peer.courier.linked(link, self._machine, hellos[self._machine])

        me = self._machine
        me.submit(d.OwnHello(_OBSERVED, device), lambda hello: said(me, hello))
        peer.submit(d.OwnHello(_OBSERVED, me.device), lambda hello: said(peer, hello))
        me.after(LIMITS.hello_deadline_s, lambda: self._failed(device))

    def _failed(self, device: DeviceKey) -> None:
        pursuit = self._pursuits[device]
        if device in self.links or not pursuit.under_way:
            return
        pursuit.under_way = False
        wait = min(LIMITS.redial_first_s * 2**pursuit.failures, LIMITS.redial_last_s)
        pursuit.failures = min(pursuit.failures + 1, 16)
        wait *= self._machine.rng.uniform(0.75, 1.25)
        pursuit.not_before = self._clock.now + wait
        self._machine.after(wait, lambda: self._pursue(device))
        if device in self._carrying:  # the parcels do not wait
            self._carry(device)

    def _pursue(self, device: DeviceKey) -> None:
        pursuit = self._pursuits[device]
        if self._machine.up and pursuit.wanted_until > self._clock.now >= pursuit.not_before:
            self._dial(device)

    def linked(self, link: Link, peer: Machine, hello: Hello) -> None:
        device = peer.device
        old = self.links.get(device)
        if old is not None:  # dead, and we had not noticed; or to the other copy of a clone
            self._network.end(old, 0.0)
            self._give_back(old)
        self.links[device] = link
        pursuit = self._pursuits.setdefault(device, _Pursuit())
        pursuit.failures, pursuit.not_before, pursuit.under_way = 0, 0.0, False
        self._machine.submit(d.LinkUp(device, hello), lambda wish: self._greeted(link, peer, wish))
        self._machine.submit(d.Retry(device))
        if device in self._carrying:
            self._carry(device)

    def _greeted(self, link: Link, peer: Machine, wish: d.BundleWish | Fault | None) -> None:
        if isinstance(wish, Fault):
            self._network.end(link, 0.0)
        elif wish is not None:
            self._ask_bundle(link, peer, wish)

    def _ask_bundle(self, link: Link, peer: Machine, wish: d.BundleWish) -> None:
        def asked() -> None:
            question = d.AnswerBundle(wish.identity, wish.newer_than, self._machine.device)
            peer.submit(question, answered)

        def answered(response: object) -> None:
            if isinstance(response, Fault):
                return
            link.carry(
                peer,
                lambda: self._machine.submit(
                    d.ReceiveBundle(response.core, response.endpoints)  # type: ignore[attr-defined]
                ),
            )

        link.carry(self._machine, asked)

    def link_ended(self, link: Link, device: DeviceKey) -> None:
        """Called by the network, once."""
        if self.links.get(device) is link:
            del self.links[device]
            self._machine.submit(d.LinkDown(device))
        self._give_back(link)

    def _give_back(self, link: Link) -> None:
        """What it did not acknowledge."""
        for parcel, by in list(self._out.items()):
            if by is link:
                self._settle(d.Outcome(parcel, reason=CONNECTION_LOST, retry_after_s=0.0))

    # --- carrying

    def wake(self, devices: list[DeviceKey]) -> None:
        """These have parcels due."""
        for device in devices:
            self._more[device] = None
            self._start(device)

    def _start(self, device: DeviceKey) -> None:
        if device not in self._carrying and self._machine.up:
            self._carrying.add(device)
            self._carry(device)

    def _carry(self, device: DeviceKey) -> None:
        """Waits for a dial that is under way; else takes what is due, and it goes as it can."""
        if device not in self.links and self._want(device, LIMITS.pursue_s).under_way:
            return  # `linked` or `_failed` goes on
        self._more.pop(device, None)
        self._machine.submit(
            d.TakeDue(device, LIMITS.take), lambda items: self._taken(device, items)
        )

    def _taken(self, device: DeviceKey, items: tuple[v.OutboxItem, ...] | Fault) -> None:
        self._carrying.discard(device)
        if isinstance(items, Fault):
            return
        if len(items) == LIMITS.take:
            self._more[device] = None
        link = self.links.get(device)
        fresh = self._with_keys(device, [item for item in items if item.parcel not in self._out])
        for item in fresh:
            self._out[item.parcel] = link
        relay = self._machine.world.relay
        if link is not None:
            for item in fresh:
                self._hand_over(link, item)
        elif fresh and relay is not None:
            self._leave_at_relay(fresh)
        else:
            for item in fresh:
                self._settle(d.Outcome(item.parcel, reason=NO_ANSWER))
        if device in self._more:
            self._start(device)

    def _with_keys(self, device: DeviceKey, items: list[v.OutboxItem]) -> list[v.OutboxItem]:
        keyless = [item for item in items if item.hybrid_key is None]
        link = self.links.get(device)
        for item in keyless:
            self._out[item.parcel] = link
            self._settle(d.Outcome(item.parcel, reason="no-hybrid-key"))
        if keyless and link is not None and device not in self._asked_for_bundle:
            self._asked_for_bundle.add(device)
            peer = link.other(self._machine)
            self._ask_bundle(link, peer, d.BundleWish(peer.identity, 0))
        return [item for item in items if item.hybrid_key is not None]

    def _sealed(self, item: v.OutboxItem) -> Parcel:
        self._machine.world.tell_sent(self._machine, item)
        key = item.hybrid_key or b""
        sealed = self._machine.world.seal(key, pad(item.body))
        return Parcel(item.parcel, item.recipient, item.expires, sealed)

    def _hand_over(self, link: Link, item: v.OutboxItem) -> None:
        peer, parcel = link.other(self._machine), self._sealed(item)
        link.carry(
            self._machine,
            lambda: peer.courier.arrived(
                parcel,
                "direct",
                lambda verdict: link.carry(
                    peer, lambda: self._settle(_outcome(parcel.id, verdict))
                ),
                via=self._machine.device,
            ),
            twice=True,
        )

    def arrived(
        self, parcel: Parcel, path: str, answer: object, via: DeviceKey | None = None
    ) -> None:
        """To the engine; its verdict goes to `answer`."""

        def judged(verdict: object) -> None:
            if isinstance(verdict, Fault):
                peers = verdict.blame is Blame.PEER
                verdict = v.Rejected(verdict.code) if peers else v.Deferred(LIMITS.engine_failed_s)
            answer(verdict)  # type: ignore[operator]

        if self._machine.world.deaf(self._machine):
            judged(v.Accepted())
        else:
            self._machine.submit(d.Arrived(parcel, path, via), judged)

    def _leave_at_relay(self, items: list[v.OutboxItem]) -> None:
        relay, machine = self._machine.world.relay, self._machine
        if relay is None or not self._network.reaches_relay(machine):
            for item in items:
                self._settle(d.Outcome(item.parcel, reason=RELAY_UNREACHABLE))
            return
        there = self._network.latency()
        for item in items:
            parcel = self._sealed(item)

            def left(parcel: Parcel = parcel) -> None:
                outcome = relay.enqueue(parcel)
                machine.after(self._network.latency(), lambda: self._settle(outcome))

            machine.after(there, left)

    def _attend_relay(self) -> None:
        relay = self._machine.world.relay
        if relay is not None and self._machine.up and self._network.reaches_relay(self._machine):
            relay.attend(self._machine)

    def _settle(self, outcome: d.Outcome) -> None:
        """The one outcome of a parcel that is out; whatever comes after it is dropped."""
        if outcome.parcel not in self._out:
            return
        del self._out[outcome.parcel]
        if not self._outcomes:
            self._machine.after(0.0, self._report)
        self._outcomes.append(outcome)

    def _report(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        self._machine.submit(d.ReportOutcomes(tuple(outcomes)))

    def send_summary(self, device: DeviceKey, summary: bytes) -> None:
        link = self.links.get(device)
        if link is not None:
            peer, me = link.other(self._machine), self._machine.device
            signed = Signed.decode(summary)
            link.carry(self._machine, lambda: peer.submit(d.ReceiveSummary(me, signed)))


def _outcome(parcel: ParcelId, verdict: v.Verdict) -> d.Outcome:
    match verdict:
        case v.Accepted():
            return d.Outcome(parcel, acked=True)
        case v.Deferred(retry_after_s):
            return d.Outcome(parcel, reason="deferred", retry_after_s=retry_after_s)
        case v.Rejected(code):
            return d.Outcome(parcel, refused=code)
