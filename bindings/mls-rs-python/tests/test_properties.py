"""Random histories: whoever is a member agrees, and reads each message exactly once."""

from dataclasses import dataclass, field

import mls_rs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

NOW = 1_790_000_000
LARGEST = 6


@dataclass
class Person:
    client: mls_rs.Client
    group: mls_rs.Group
    waiting: dict[int, bytes] = field(default_factory=dict)
    """Messages on their way, by number."""
    read: set[int] = field(default_factory=set)
    done: list[bytes] = field(default_factory=list)
    """Messages opened: each is refused from then on."""


class History(RuleBasedStateMachine):
    """Add, remove, update, come back, send, late, duplicate, reordered, tampered, stored."""

    suite = mls_rs.CLASSIC

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.made = 0
        client = self.client()
        self.people = [Person(client, client.create_group(b"group", self.suite))]

    def client(self) -> mls_rs.Client:
        self.made += 1
        return mls_rs.Client(
            signing_seed=self.made.to_bytes(32, "big"),
            credential=b"%d" % self.made,
            storage_key=bytes(32),
            validate_credential=lambda key, credential: None,
        )

    def person(self, data) -> Person:
        return data.draw(st.sampled_from(self.people), "who")

    def spread(self, author: Person, message: bytes) -> None:
        for person in self.people:
            if person is not author:
                assert isinstance(person.group.process(message), mls_rs.Commit)

    def unchanged(self, person: Person, operation) -> mls_rs.MlsError:
        """A refused operation leaves the group as it was."""
        group = person.group
        before = (group.epoch_authenticator, group.next_generation, group.skipped_keys)
        with pytest.raises(mls_rs.MlsError) as refused:
            operation()
        assert (group.epoch_authenticator, group.next_generation, group.skipped_keys) == before
        return refused.value

    @precondition(lambda self: len(self.people) < LARGEST)
    @rule(data=st.data())
    def add(self, data) -> None:
        author, client = self.person(data), self.client()
        package = client.key_package(self.suite, now=NOW, lifetime_s=1_000)
        pending = author.group.commit(add=[package.message], now=NOW)
        author.group.apply(pending)
        self.spread(author, pending.message)
        self.people.append(Person(client, client.join(pending.welcome)))

    @precondition(lambda self: len(self.people) > 2)
    @rule(data=st.data())
    def remove(self, data) -> None:
        author = self.person(data)
        gone = data.draw(st.sampled_from([p for p in self.people if p is not author]), "gone")
        pending = author.group.commit(remove=[gone.group.own_index], now=NOW)
        author.group.apply(pending)
        self.spread(author, pending.message)
        self.people.remove(gone)
        assert not gone.group.active
        for person in self.people:  # what the one who left had on its way is "sender-left" now
            person.waiting.clear()

    @rule(data=st.data())
    def update(self, data) -> None:
        author = self.person(data)
        pending = author.group.commit(now=NOW)
        author.group.apply(pending)
        self.spread(author, pending.message)

    @precondition(lambda self: len(self.people) > 1)
    @rule(data=st.data())
    def come_back(self, data) -> None:
        back = self.person(data)
        helper = next(p for p in self.people if p is not back)
        group, commit = back.client.rejoin(helper.group.group_info(), now=NOW)
        self.spread(back, commit)
        back.group = group
        for person in self.people:
            person.waiting.clear()
        back.done.clear()

    @rule(data=st.data(), skipped=st.integers(0, 20))
    def send(self, data, skipped) -> None:
        author = self.person(data)
        author.group.skip_to_generation(author.group.next_generation + skipped)
        self.sent += 1
        message = author.group.encrypt(b"%d" % self.sent)
        for person in self.people:
            if person is not author:
                person.waiting[self.sent] = message

    @rule(data=st.data())
    def receive(self, data) -> None:
        """In any order, from any of the epochs since."""
        reader = self.person(data)
        if reader.waiting:
            number = data.draw(st.sampled_from(sorted(reader.waiting)), "number")
            message = reader.waiting.pop(number)
            assert reader.group.process(message).plaintext == b"%d" % number
            assert number not in reader.read
            reader.read.add(number)
            reader.done.append(message)

    @rule(data=st.data())
    def receive_all(self, data) -> None:
        reader = self.person(data)
        numbers = data.draw(st.permutations(sorted(reader.waiting)), "order")
        results = reader.group.process_many([reader.waiting[n] for n in numbers])
        assert [r.plaintext for r in results] == [b"%d" % n for n in numbers]
        assert not reader.read & set(numbers)
        reader.read.update(numbers)
        reader.done += reader.waiting.values()
        reader.waiting.clear()

    @rule(data=st.data())
    def receive_again(self, data) -> None:
        reader = self.person(data)
        if reader.done:
            message = data.draw(st.sampled_from(reader.done))
            self.unchanged(reader, lambda: reader.group.process(message))

    @rule(data=st.data(), place=st.integers(0, 2**16), flip=st.integers(1, 255))
    def receive_tampered(self, data, place, flip) -> None:
        """The original still opens: `receive` comes across it later."""
        reader = self.person(data)
        if reader.waiting:
            message = bytearray(data.draw(st.sampled_from(sorted(reader.waiting.values()))))
            message[place % len(message)] ^= flip
            self.unchanged(reader, lambda: reader.group.process(bytes(message)))

    @rule(data=st.data())
    def stored_and_loaded(self, data) -> None:
        person = self.person(data)
        person.group.save(tree=True)
        state = tree = None
        epochs = {}
        for entry in person.client.take_log():
            match entry.kind:
                case "state":
                    state = entry.data
                case "tree":
                    tree = entry.data
                case "epoch-insert" | "epoch-update":
                    epochs[entry.id] = entry.data
        before = person.group.epoch_authenticator
        again = person.client.load_group(b"group", state, tree, sorted(epochs.items()))
        assert again.epoch_authenticator == before
        assert again.next_generation == person.group.next_generation
        assert again.skipped_keys == person.group.skipped_keys

    @invariant()
    def members_agree(self) -> None:
        assert len({person.group.epoch_authenticator for person in self.people}) == 1
        assert len({tuple(person.group.roster()) for person in self.people}) == 1
        assert len(self.people[0].group.roster()) == len(self.people)


@pytest.mark.parametrize("suite", [mls_rs.CLASSIC, mls_rs.HYBRID], ids=["classic", "hybrid"])
def test_random_histories(suite):
    machine = type("History", (History,), {"suite": suite})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
