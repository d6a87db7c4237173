"""The binding beside the Rust crate it binds: the same operations, at 2 to 1,000 members.

The reference is a program of the same crate, features and compiler settings, which does what the
binding does without what the binding adds: it neither clones to survive a refused message, nor
seals what it stores, nor turns results into Python values. Rounds alternate; the best of each
counts, as noise only slows down.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import mls_rs

from benchmarks.report import Row

ROOT: Final = Path(__file__).parent.parent
SUITES: Final = {"classic": mls_rs.CLASSIC, "hybrid": mls_rs.HYBRID}
TARGET_RATIO: Final = 1.2
TEXT: Final = bytes(256)

# operation -> rounds at (up to 100, 1,000) members
ROUNDS: Final[dict[str, tuple[int, int]]] = {
    "key-package": (60, 60),
    "add-one": (40, 12),
    "path-commit": (60, 20),
    "process-commit": (60, 20),
    "join": (30, 8),
    "encrypt": (400, 400),
    "decrypt": (400, 200),
    "save": (100, 60),
    "load": (40, 10),
}


class Reference:
    """mls-rs itself, in a process that answers `OPERATION ROUNDS` with microseconds."""

    def __init__(self, program: Path, suite: int, members: int) -> None:
        self._process = subprocess.Popen(
            [program, "bench", str(suite), str(members)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def times(self, operation: str, rounds: int) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(operation, rounds, file=self._process.stdin)
        return [float(word) for word in self._process.stdout.readline().split()]

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


class Ours:
    """The same world as benchmarks/mls-rs-reference/src/bench.rs."""

    def __init__(self, suite: int, members: int) -> None:
        self._suite = suite
        self._now = int(time.time())
        first = self._client(b"first")
        self._first = first
        self._alice = first.create_group(b"group", suite)
        self._bob_client = self._client(b"bob")
        packages = [self._package(self._bob_client)]
        packages += [self._package(self._client(b"member")) for _ in range(2, members)]
        pending = self._commit(self._alice, packages)
        self._alice.apply(pending)
        assert pending.welcome is not None
        self._bob = self._bob_client.join(pending.welcome)
        self._spare = self._client(b"spare")
        for _ in range(2):
            self._spread(self._alice, self._bob)
            self._spread(self._bob, self._alice)

    def _client(self, name: bytes) -> mls_rs.Client:
        return mls_rs.Client(
            signing_seed=os.urandom(32),
            credential=name,
            storage_key=bytes(32),
            validate_credential=_accept,
        )

    def _package(self, client: mls_rs.Client) -> bytes:
        made = client.key_package(self._suite, now=self._now, lifetime_s=90 * 86_400)
        return made.message

    def _commit(self, group: mls_rs.Group, add: list[bytes]) -> mls_rs.PendingCommit:
        return group.commit(add=add, now=self._now)

    def _spread(self, author: mls_rs.Group, other: mls_rs.Group) -> None:
        pending = self._commit(author, [])
        author.apply(pending)
        other.process(pending.message)

    def times(self, operation: str, rounds: int) -> list[float]:
        """Microseconds of each round."""
        run = getattr(self, "_" + operation.replace("-", "_"))
        return [run() for _ in range(rounds)]

    def _key_package(self) -> float:
        return _timed(lambda: self._package(self._spare))

    def _add_one(self) -> float:
        package = self._package(self._spare)
        return _timed(lambda: self._commit(self._alice, [package]))

    def _path_commit(self) -> float:
        return _timed(lambda: self._commit(self._alice, []))

    def _process_commit(self) -> float:
        pending = self._commit(self._alice, [])
        took = _timed(lambda: self._bob.process(pending.message))
        self._alice.apply(pending)
        for client, group in ((self._first, self._alice), (self._bob_client, self._bob)):
            group.save()
            client.take_log()
        return took

    def _join(self) -> float:
        joiner = self._client(b"joiner")
        pending = self._commit(self._alice, [self._package(joiner)])
        welcome = pending.welcome
        assert welcome is not None
        return _timed(lambda: joiner.join(welcome))

    def _encrypt(self) -> float:
        started = time.perf_counter()
        message = self._alice.encrypt(TEXT)
        took = time.perf_counter() - started
        self._bob.process(message)
        return took * 1e6

    def _decrypt(self) -> float:
        message = self._alice.encrypt(TEXT)
        return _timed(lambda: self._bob.process(message))

    def _save(self) -> float:
        self._bob.encrypt(TEXT)
        took = _timed(lambda: self._bob.save(tree=False))
        self._bob_client.take_log()
        return took

    def _load(self) -> float:
        self._bob.save(tree=True)
        rows = {entry.kind: entry.data for entry in self._bob_client.take_log()}
        state, tree = rows["state"], rows["tree"]
        assert state is not None
        assert tree is not None
        return _timed(lambda: self._bob_client.load_group(b"group", state, tree))

    def decrypted_in_batches(self, count: int) -> tuple[float, float]:
        """Microseconds per message: one by one, and by `process_many`."""
        messages = [self._alice.encrypt(TEXT) for _ in range(count)]
        single = self._bob.clone()
        alone = _timed(lambda: [single.process(message) for message in messages])
        return alone / count, _timed(lambda: self._bob.process_many(messages)) / count


def _accept(signature_key: bytes, credential: bytes) -> None:
    pass


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e6


def _program() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "-q", "-p", "mls-rs-reference"],
        cwd=ROOT,
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        check=True,
    )
    return target / "release" / "mls-rs-reference"


def _compare(ours: Ours, reference: Reference, operation: str, rounds: int) -> tuple[float, float]:
    """Best of each, in four alternating slices: noise only slows down."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(4):
        mine += ours.times(operation, max(1, rounds // 4))
        theirs += reference.times(operation, max(1, rounds // 4))
    return min(mine), min(theirs)


def rows(quick: bool) -> list[Row]:
    program = _program()
    found = []
    for name, suite in SUITES.items():
        for members in (2, 10, 100) if quick else (2, 10, 100, 1_000):
            ours = Ours(suite, members)
            with closing(Reference(program, suite, members)) as reference:
                for operation, (few, many) in ROUNDS.items():
                    rounds = many if members > 100 else few
                    mine, theirs = _compare(ours, reference, operation, rounds)
                    found.append(
                        Row(
                            f"{operation}, {members} members, {name}",
                            mine,
                            "us",
                            theirs,
                            "mls-rs",
                            TARGET_RATIO,
                            at_least=False,
                        )
                    )
            pairs = [ours.decrypted_in_batches(200) for _ in range(5)]
            found.append(
                Row(
                    f"decrypt in batches of 200, {members} members, {name}",
                    min(many for _, many in pairs),
                    "us",
                    min(one for one, _ in pairs),
                    "one by one",
                )
            )
    return found
