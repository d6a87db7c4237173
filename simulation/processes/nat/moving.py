"""Two nodes that talk while the network changes under one of them: how long nothing comes, and
that nothing is lost or shown twice."""

from __future__ import annotations

import itertools
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from node.api import operations as op
from node.api import shapes as s
from simulation.processes.nat.behaviour import PORT_RESTRICTED, SYMMETRIC, Behaviour
from simulation.processes.nat.internet import Host, Internet
from simulation.processes.nat.world import node_at
from simulation.processes.node_process import NodeProcess, RelayProcess
from simulation.processes.talk import LOOK_S, wait_until

PER_SECOND: Final = 50
_DEADLINE_S: Final = 30.0  # for what must come
_BEFORE_S: Final = 2.0  # of talk
_AFTER_S: Final = 2.0


class Change(StrEnum):
    """What happens to the network under the node."""

    ADDRESS = "another address in the same home"
    MAPPING = "the router forgets, and maps to another port"
    ROUTER = "the router gets another address"
    MOVE = "from one home to another, as from Wi-Fi to mobile"


class Peer(StrEnum):
    """Who the one is that nothing happens to; of two links the lower key's survives."""

    PUBLIC = "public"
    DIALLED = "at home, dialled"
    DIALLING = "at home, which dialled"


@dataclass
class Voice:
    """One direction of a talk: when each text was accepted, and each time that it was shown.

    Times are monotonic seconds.
    """

    writer: NodeProcess
    reader: NodeProcess
    sent: dict[str, float] = field(default_factory=dict)
    shown: list[tuple[float, str, str]] = field(default_factory=list)  # when, text, path

    def silence(self, since: float, until: float) -> float:
        """Seconds of the longest time in which nothing came."""
        times = [since, *(at for at, _, _ in self.shown if since <= at <= until), until]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    @property
    def lost(self) -> list[str]:
        """Accepted and not shown."""
        return sorted(set(self.sent) - {text for _, text, _ in self.shown})

    @property
    def repeated(self) -> list[str]:
        counts = Counter(text for _, text, _ in self.shown)
        return sorted(text for text, count in counts.items() if count > 1)

    def caught_up(self) -> bool:
        return not self.lost

    def paths_since(self, since: float) -> set[str]:
        """Those of what was written later and has been shown."""
        return {path for _, text, path in self.shown if self.sent.get(text, 0.0) > since}


class Talk:
    """Both write, PER_SECOND messages each, and both read, while it is `going_on`."""

    def __init__(self, one: NodeProcess, other: NodeProcess, group: str) -> None:
        self.voices = (Voice(one, other), Voice(other, one))
        self.group = group
        self._silent = threading.Event()

    def heard_since(self, since: float, *, directly: bool = False) -> bool:
        """Whether something that was written later was shown at both ends."""
        paths = [voice.paths_since(since) for voice in self.voices]
        return all("direct" in each if directly else each for each in paths)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Until its end; then all that was accepted has been shown, or AssertionError."""
        readers = [
            voice.reader.begin("recv", self.group, "--stream", "--cursor", "talk")
            for voice in self.voices
        ]
        threads = [
            *(threading.Thread(target=self._write, args=[voice]) for voice in self.voices),
            *(
                threading.Thread(target=_read, args=[voice, process.stdout])
                for voice, process in zip(self.voices, readers, strict=True)
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._silent.set()
            try:
                for thread in threads[: len(self.voices)]:
                    thread.join()
                for voice in self.voices:
                    wait_until(voice.caught_up, "all that was accepted is shown", _DEADLINE_S)
            finally:
                for process in readers:
                    process.terminate()
                    process.wait()
                for thread in threads:
                    thread.join()

    def _write(self, voice: Voice) -> None:
        began = time.monotonic()
        for number in itertools.count():
            if self._silent.wait(max(0.0, began + number / PER_SECOND - time.monotonic())):
                return
            text = f"{voice.writer.name} says {number}"
            voice.writer.call(op.SEND, s.Send(text, self.group))
            voice.sent[text] = time.monotonic()


def _read(voice: Voice, lines: IO[str] | None) -> None:
    assert lines is not None
    with lines:
        for line in lines:
            found = json.loads(line)
            voice.shown.append((time.monotonic(), found["text"], found["path"]))


class Dweller:
    """A machine in a home, with another home near."""

    def __init__(self, internet: Internet, behaviour: Behaviour) -> None:
        self._home, self._next = (internet.home(behaviour, internet.segment()) for _ in range(2))
        self.host = internet.host(self._home.segments[0])

    def play(self, change: Change) -> None:
        match change:
            case Change.ADDRESS:
                self.host.renumber()
            case Change.MAPPING:
                self._home.forget()
            case Change.ROUTER:
                self._home.renumber()
            case Change.MOVE:
                self._home, self._next = self._next, self._home
                self.host.move(self._home.segments[0])


@contextmanager
def opened(peer: Peer, behaviour: Behaviour = PORT_RESTRICTED) -> Iterator[tuple[Dweller, Talk]]:
    """Two nodes that have met, and a relay; the first voice is the dweller's. Homes behave so.

    Raises StepFailed, Fault, OSError, subprocess.CalledProcessError.
    """
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="moving-")))
        internet = ends.enter_context(Internet())
        relay = RelayProcess(folder, internet.host(internet.segment()))
        ends.callback(relay.end)

        def start(name: str, host: Host) -> NodeProcess:
            node = node_at(host, name, folder, "--relay", relay.address)
            ends.callback(node.end)
            node.run()
            return node

        dweller = Dweller(internet, behaviour)
        mover = start("one", dweller.host)
        if peer is Peer.PUBLIC:
            other = start("other", internet.host(internet.segment()))
        else:
            second = Dweller(internet, behaviour)
            other = start("other", second.host)
            if (mover.device < other.device) != (peer is Peer.DIALLED):
                dweller, mover, other = second, other, mover
        mover.knows(other)
        other.knows(mover)
        group = mover.call(op.SEND, s.Send("hello", person=other.identity)).group
        other.join(group)
        yield dweller, Talk(mover, other, group)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one change; seconds without anything shown, to the one that it happens to and from it.

    `direct_s`: until messages went directly both ways again; None: not in time.
    """

    to_s: float
    from_s: float
    direct_s: float | None
    messages: int
    lost: int
    repeated: int


def measure(change: Change, peer: Peer) -> Outcome:
    """One change under traffic. Raises what `opened` does, and AssertionError for what is lost."""
    behaviour = SYMMETRIC if change is Change.MAPPING else PORT_RESTRICTED
    with opened(peer, behaviour) as (dweller, talk):
        with talk.going_on():
            wait_until(
                lambda: talk.heard_since(0.0, directly=True), "they talk directly", _DEADLINE_S
            )
            time.sleep(_BEFORE_S)
            at = time.monotonic()
            dweller.play(change)
            direct_s = _until_direct(talk, at, time.monotonic())
            time.sleep(_AFTER_S)
            end = time.monotonic()
        outward, inward = talk.voices
        return Outcome(
            to_s=inward.silence(at, end),
            from_s=outward.silence(at, end),
            direct_s=direct_s,
            messages=sum(len(voice.sent) for voice in talk.voices),
            lost=sum(len(voice.lost) for voice in talk.voices),
            repeated=sum(len(voice.repeated) for voice in talk.voices),
        )


def _until_direct(talk: Talk, at: float, changed: float) -> float | None:
    """Seconds from `at` until something written after the change went directly each way."""
    while time.monotonic() < at + _DEADLINE_S:
        if talk.heard_since(changed, directly=True):
            return time.monotonic() - at
        time.sleep(LOOK_S)
    return None
