"""`make soak SECONDS=N`: three nodes, a relay, traffic, kill -9 every few seconds, a bad network.

The first three quarters are the storm; in the last quarter nobody is killed, the traffic and the
bad network go on, and memory must stay flat. In the end every accepted message must have been
shown once, everybody must stand in one epoch and every ledger be settled. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from simulation.processes.talk import Talk
from tests.durability.programs import World
from tests.durability.storm import Storm
from tests.soak.memory import Samples

STORM = 0.75  # of the time
BETWEEN_KILLS_S = 5.0  # at most; half of that on average
PAUSE_S = 0.6  # between two messages of one node, at most
LOOK_S = 2.0
TELL_S = 15.0
SETTLE_S = 180.0
LEAST_QUIET_S = 60.0  # below that growth is shown, not judged: what was just revived still fills up
MAY_GROW = 1.15  # of one process, from the first to the last third of the quiet quarter
MOST_FILES = 200


class Soak:
    """One run."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.samples = Samples()
        self.began = self._told = self._looked = time.monotonic()
        self.quiet_since = 0.0

    def phases(self, storm: Storm) -> None:
        """What Storm.run runs beside the traffic."""
        while time.monotonic() < self.began + STORM * self.seconds:
            storm.kill_somebody()
            self._look(storm)
        storm.revive_all()
        self.quiet_since = time.monotonic()
        while time.monotonic() < self.began + self.seconds:
            time.sleep(0.2)
            self._look(storm)

    def _look(self, storm: Storm) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self.samples.take(storm.world.programs)
        if now - self._told >= TELL_S:
            self._told = now
            said = len(storm.talk.accepted)
            print(
                f"{now - self.began:6.0f} s  {storm.kills} kills  {said} messages accepted"
                f"  MiB {self.samples.last()}",
                file=sys.stderr,
                flush=True,
            )

    def complaints(self) -> list[str]:
        """About memory and files."""
        judged = (1 - STORM) * self.seconds >= LEAST_QUIET_S
        found = [
            f"{name} grew to {growth:.2f} times its size while nobody was killed"
            for name, growth in self.samples.growth(self.quiet_since).items()
            if judged and growth > MAY_GROW
        ]
        if self.samples.most_files() > MOST_FILES:
            found.append(f"a process held {self.samples.most_files()} files open")
        return found


def run(folder: Path, seconds: float, seed: int) -> dict[str, object]:
    """The figures of a run. Raises AssertionError when a promise was broken."""
    world = World(folder)
    for program in world.programs:
        program.through = "tests.soak.flaky"
    try:
        world.start()
        talk: Talk = world.talk(world.ada, world.bob, world.cy)
        soak = Soak(seconds)
        storm = Storm(world, talk, seed, between_kills_s=BETWEEN_KILLS_S, pause_s=PAUSE_S)
        storm.run(soak.phases)
        print("the storm is over; checking every message", file=sys.stderr, flush=True)
        talk.check(SETTLE_S)
        complaints = soak.complaints()
        assert not complaints, "; ".join(complaints)
        return {
            "seconds": round(seconds),
            "seed": seed,
            "kills": storm.kills,
            "killed": dict(storm.killed),
            "killed_while_starting": storm.while_starting,
            "accepted": len(talk.accepted),
            "unsure": len(talk.unsure),
            "lost": 0,  # Talk.check would have raised
            "repeated": 0,
            "growth": {k: round(v, 3) for k, v in soak.samples.growth(soak.quiet_since).items()},
            "pss_mib": soak.samples.last(),
            "most_files": soak.samples.most_files(),
        }
    finally:
        world.end()


def main() -> int:
    """0 when nothing was lost, repeated or grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices, not the times")
    parser.add_argument("--keep", type=Path, help="an empty folder for homes and logs, kept")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            figures = run(folder, arguments.seconds, seed)
        except AssertionError as error:
            print(json.dumps({"seed": seed, "broken": str(error)}))
            return 1
        except KeyboardInterrupt:
            print("stopped before its end: nothing was checked", file=sys.stderr)
            return 130
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
