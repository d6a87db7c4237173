"""Devices and groups for the tests."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import mls_rs
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from outlaw import Outlaw

NOW = 1_790_000_000
"""The wall clock of the tests, Unix seconds."""
DAY = 86_400


def accept(signature_key: bytes, credential: bytes) -> None:
    """A validator that refuses nobody."""


@dataclass
class Member:
    client: mls_rs.Client
    group: mls_rs.Group

    def commit(self, **arguments) -> mls_rs.PendingCommit:
        return self.group.commit(now=NOW, **arguments)


class World:
    def __init__(self, suite: int) -> None:
        self.suite = suite
        self.now = NOW

    def client(
        self,
        name: bytes = b"somebody",
        validate: Callable[[bytes, bytes], None] = accept,
        seed: bytes | None = None,
        storage_key: bytes = bytes(32),
        policy: int | None = None,
        authorize: Callable[[mls_rs.Change], None] | None = None,
    ) -> mls_rs.Client:
        return mls_rs.Client(
            signing_seed=seed or os.urandom(32),
            credential=name,
            storage_key=storage_key,
            validate_credential=validate,
            authorize_commit=authorize,
            extension_types=[0xF001],
            policy_extension=policy,
        )

    def key_package(self, client: mls_rs.Client, **arguments) -> mls_rs.KeyPackage:
        arguments = {"now": NOW, "lifetime_s": 90 * DAY} | arguments
        return client.key_package(self.suite, **arguments)

    def alone(self, name: bytes = b"member 0", **arguments) -> Member:
        client = self.client(name, **arguments)
        return Member(client, client.create_group(b"group", self.suite))

    def group(self, size: int) -> list[Member]:
        """A group of `size` members, all in the same epoch; logs are empty, nothing is saved."""
        first = self.alone()
        others = [self.client(b"member %d" % i) for i in range(1, size)]
        packages = [self.key_package(client).message for client in others]
        members = [first]
        if packages:
            pending = first.commit(add=packages)
            first.group.apply(pending)
            members += [Member(client, client.join(pending.welcome)) for client in others]
        for member in members:
            member.client.take_log()
        return members

    @staticmethod
    def spread(pending: mls_rs.PendingCommit, author: Member, members: list[Member]) -> None:
        """The author applies a commit, everybody else processes it."""
        author.group.apply(pending)
        for member in members:
            if member is not author:
                member.group.process(pending.message)

    @staticmethod
    def agree(members: list[Member]) -> bool:
        return len({member.group.epoch_authenticator for member in members}) == 1


@pytest.fixture(params=[mls_rs.CLASSIC, mls_rs.HYBRID], ids=["classic", "hybrid"])
def world(request) -> World:
    return World(request.param)


@pytest.fixture
def classic() -> World:
    return World(mls_rs.CLASSIC)


class Shelf:
    """Stores a client's log as a caller should: rows by kind, applied in order."""

    def __init__(self) -> None:
        self.state: bytes | None = None
        self.tree: bytes | None = None
        self.epochs: dict[int, bytes] = {}
        self.packages: dict[bytes, bytes] = {}

    def take(self, client: mls_rs.Client) -> list[str]:
        kinds = []
        for entry in client.take_log():
            kinds.append(entry.kind)
            match entry.kind:
                case "state":
                    self.state = entry.data
                case "tree":
                    self.tree = entry.data
                case "epoch-insert":
                    assert entry.id not in self.epochs
                    self.epochs[entry.id] = entry.data
                case "epoch-update":
                    if entry.id in self.epochs:
                        self.epochs[entry.id] = entry.data
                case "key-package-insert":
                    self.packages[entry.id] = entry.data
                case "key-package-delete":
                    self.packages.pop(entry.id, None)
        return kinds

    def load(self, client: mls_rs.Client, group_id: bytes = b"group") -> mls_rs.Group:
        return client.load_group(group_id, self.state, self.tree, sorted(self.epochs.items()))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def outlaws(request) -> Iterator[Callable[..., Outlaw]]:
    """Makes members who keep no rule, of the same suite as the test's world."""
    world = request.getfixturevalue("world" if "world" in request.fixturenames else "classic")
    with ExitStack() as stack:

        def make(name: bytes | None = None) -> Outlaw:
            return stack.enter_context(closing(Outlaw(world.suite, name)))

        yield make
