"""The caller's function judges every commit before it takes effect, whatever way it comes."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import mls_rs
import pytest

KIND = 0xF001
FIELDS = [name for name in vars(mls_rs.Change) if not name.startswith("_")]


class Forbidden(Exception):
    pass


@dataclass
class Judge:
    """Remembers what it was asked, and raises while told to (at `only` this authenticated data)."""

    error: type[BaseException] | None = None
    only: bytes | None = None
    asked: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, change: mls_rs.Change) -> None:
        self.asked.append({name: getattr(change, name) for name in FIELDS})
        if self.error is not None and self.only in (None, change.authenticated_data):
            raise self.error("why")


def judged(world, size):
    """The judge, client and group of each of `size` members; nothing was asked yet."""
    judges = [Judge() for _ in range(size)]
    clients = [world.client(b"%d" % i, authorize=judge) for i, judge in enumerate(judges)]
    first = clients[0].create_group(b"group", world.suite, [(KIND, b"before")])
    if size > 1:
        packages = [world.key_package(client).message for client in clients[1:]]
        pending = first.commit(add=packages, now=world.now)
        first.apply(pending)
    groups = [first, *(client.join(pending.welcome) for client in clients[1:])]
    for judge, client in zip(judges, clients, strict=True):
        judge.asked.clear()
        client.take_log()
    return judges, clients, groups


def everything(group):
    """All that can be seen of a group."""
    names = ("epoch", "epoch_authenticator", "active", "own_index", "next_generation", "tree_hash")
    return [getattr(group, name) for name in names], group.roster(), group.extension(KIND)


def test_all_members_judge_the_same_change(world):
    judges, clients, groups = judged(world, 5)
    before = groups[0].roster()
    newcomers = [world.client(b"new"), world.client(b"newer")]
    pending = groups[0].commit(
        add=[world.key_package(client).message for client in newcomers],
        remove=[3, 1],
        extensions=[(KIND, b"after")],
        authenticated_data=b"wishes",
        now=world.now,
    )
    assert len(judges[0].asked) == 1
    groups[0].clone().apply(pending)
    groups[0].apply(clients[0].open_pending_commit(pending.seal()))
    assert len(judges[0].asked) == 3
    for group in groups[1:4]:
        group.process(pending.message)
    groups[4].process_many([pending.message])
    (change, *others) = [change for judge in judges for change in judge.asked]
    assert len(others) == 6
    assert all(other == change for other in others)
    after = {member.signature_key: member for member in groups[0].roster()}
    assert change == {
        "group_id": b"group",
        "epoch": 2,
        "committer": before[0],
        "members": before,
        "added": [after[client.signature_key] for client in newcomers],
        "removed": change["removed"],
        "extensions_before": [(KIND, b"before")],
        "extensions_after": [(KIND, b"after")],
        "authenticated_data": b"wishes",
    }
    assert sorted(member.index for member in change["removed"]) == [1, 3]
    assert all(member in before for member in change["removed"])


def test_a_commit_that_changes_nothing_is_judged_too(world):
    judges, _, groups = judged(world, 2)
    pending = groups[1].commit(now=world.now)
    groups[1].apply(pending)
    groups[0].process(pending.message)
    for change in judges[0].asked + judges[1].asked:
        assert (change["added"], change["removed"], change["authenticated_data"]) == ([], [], b"")
        assert change["extensions_before"] == change["extensions_after"] == [(KIND, b"before")]
        assert change["committer"].index == 1
    assert (len(judges[0].asked), len(judges[1].asked)) == (1, 2)


def test_coming_back_is_judged_by_all(world):
    judges, clients, groups = judged(world, 3)
    before = groups[0].roster()
    back, commit = clients[1].rejoin(groups[0].group_info(), now=world.now)
    for group in groups:
        group.process(commit)
    (change,) = judges[0].asked
    assert change["members"] == before
    assert change["removed"] == [before[1]]
    assert change["added"] == [change["committer"]] == [back.roster()[back.own_index]]
    assert change["epoch"] == back.epoch == 2
    assert judges[2].asked == [change]
    assert judges[1].asked == [change, change], "who comes back, and its copy that is replaced"


def test_what_is_no_commit_is_not_judged(world, shelf):
    judges, clients, groups = judged(world, 2)
    groups[1].process(groups[0].encrypt(b"x"))
    groups[1].process_many([groups[0].encrypt(b"y")])
    groups[0].save()
    shelf.take(clients[0])
    shelf.load(clients[0]).clone()
    assert not judges[0].asked + judges[1].asked


PATHS = ["commit", "apply", "apply stored", "process", "batch", "removal", "rejoin", "rejoined"]


def attempts(world, path, clients, groups):
    """One way for a commit to take effect at member 1."""
    group, client = groups[1], clients[1]
    match path:
        case "commit":
            return lambda: group.commit(now=world.now)
        case "apply":
            pending = group.commit(now=world.now)
            return lambda: group.apply(pending)
        case "apply stored":
            blob = group.commit(now=world.now).seal()
            return lambda: group.apply(client.open_pending_commit(blob))
        case "process" | "batch":
            message = groups[0].commit(now=world.now).message
            if path == "process":
                return lambda: group.process(message)
            return lambda: batch(group, message)
        case "removal":
            message = groups[0].commit(remove=[1], now=world.now).message
            return lambda: group.process(message)
        case "rejoin":
            info = groups[0].group_info()
            return lambda: client.rejoin(info, now=world.now)
        case "rejoined":
            _, message = clients[2].rejoin(groups[0].group_info(), now=world.now)
            return lambda: group.process(message)


def batch(group, message):
    (result,) = group.process_many([message])
    if isinstance(result, mls_rs.MlsError):
        raise result
    return result


@pytest.mark.parametrize("path", PATHS)
def test_a_refused_commit_leaves_no_trace(world, path):
    judges, clients, groups = judged(world, 3)
    attempt = attempts(world, path, clients, groups)
    before = everything(groups[1])
    judges[1].error = Forbidden
    for _ in range(2):
        with pytest.raises(mls_rs.RefusedByRules) as refused:
            attempt()
        assert refused.value.code == "not-authorized"
        assert isinstance(refused.value.__cause__, Forbidden)
        assert everything(groups[1]) == before
        assert clients[1].take_log() == []
    assert groups[1].process(groups[0].encrypt(b"still here")).plaintext == b"still here"
    assert groups[0].process(groups[1].encrypt(b"me too")).plaintext == b"me too"
    judges[1].error = None
    assert attempt() is not None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_interrupts_pass(classic, path, kind):
    judges, clients, groups = judged(classic, 3)
    attempt = attempts(classic, path, clients, groups)
    before = everything(groups[1])
    judges[1].error = kind
    with pytest.raises(kind):
        attempt()
    assert everything(groups[1]) == before


def test_a_refused_commit_in_a_batch_stops_nothing_else(world):
    """A branch that is not allowed comes first, then the one that is."""
    judges, _, (alice, bob) = judged(world, 2)
    judges[1].error, judges[1].only = Forbidden, b"bad"
    first, last = alice.encrypt(b"first"), alice.encrypt(b"last")
    bad = alice.commit(authenticated_data=b"bad", now=world.now)
    good = alice.commit(authenticated_data=b"good", now=world.now)
    results = bob.process_many([first, bad.message, good.message, last])
    assert isinstance(results[1], mls_rs.RefusedByRules)
    assert isinstance(results[1].__cause__, Forbidden)
    assert results[2].authenticated_data == b"good"
    assert [results[0].plaintext, results[3].plaintext] == [b"first", b"last"]
    alice.apply(good)
    assert bob.epoch_authenticator == alice.epoch_authenticator


def test_a_member_without_rules_is_judged_by_the_others(world, outlaws):
    judges, _, groups = judged(world, 2)
    outlaw = outlaws()
    package = outlaw.ask("key-package")  # by the clock: the commit's "now" must not be before it
    pending = groups[0].commit(add=[package], now=int(time.time()))
    groups[1].process(pending.message)
    groups[0].apply(pending)
    outlaw.ask("join", pending.welcome)
    message = outlaw.ask("commit-remove", 1)
    for judge, group in zip(judges, groups, strict=True):
        judge.error = Forbidden
        before = everything(group)
        with pytest.raises(mls_rs.RefusedByRules) as refused:
            group.process(message)
        assert refused.value.code == "not-authorized"
        assert everything(group) == before
        change = judge.asked[-1]
        assert (change["committer"].index, [m.index for m in change["removed"]]) == (2, [1])


def test_what_is_not_authentic_is_not_judged(classic):
    judges, _, (alice, bob) = judged(classic, 2)
    message = alice.commit(now=classic.now).message
    for place in range(0, len(message), 7):
        with pytest.raises(mls_rs.MlsError):
            bob.process(message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :])
    stale = bob.commit(now=classic.now)
    bob.process(message)
    judges[1].asked.clear()
    with pytest.raises(mls_rs.StaleCommit):
        bob.apply(stale)
    assert not judges[1].asked


@pytest.mark.parametrize(
    "use",
    [
        lambda client, group: group.encrypt(b"x"),
        lambda client, group: group.roster(),
        lambda client, group: group.clone(),
        lambda client, group: client.take_log(),
        lambda client, group: client.create_group(b"other", mls_rs.CLASSIC),
    ],
    ids=["encrypt", "roster", "clone", "log", "create"],
)
def test_a_judge_that_comes_back_is_refused_instead_of_hanging(classic, use):
    holder = []
    client = classic.client(authorize=lambda change: use(*holder))
    group = client.create_group(b"group", classic.suite)
    holder += [client, group]
    with pytest.raises(mls_rs.RefusedByRules) as refused:
        group.commit(now=classic.now)
    assert isinstance(refused.value.__cause__, RuntimeError)
    assert "authorize_commit" in str(refused.value.__cause__)
    assert group.encrypt(b"and afterwards all is well")


def test_only_a_callable_judges():
    good = {
        "signing_seed": bytes(32),
        "credential": b"x",
        "storage_key": bytes(32),
        "validate_credential": print,
    }
    mls_rs.Client(**good, authorize_commit=None)
    with pytest.raises(TypeError, match="authorize_commit"):
        mls_rs.Client(**good, authorize_commit=b"no")


def test_judges_and_waiting_threads_do_not_deadlock(world):
    """A judge needs the interpreter while other threads wait for its group, and lets them run."""
    asked = []

    def judge(change):
        asked.append(len(change.members))
        time.sleep(0.001)

    client = world.client(authorize=judge)
    group = client.create_group(b"group", world.suite)
    pending = group.commit(add=[world.key_package(other := world.client()).message], now=world.now)
    group.apply(pending)
    messages = [other.join(pending.welcome).commit(now=world.now).message]

    def work(index):
        match index % 5:
            case 0:
                return len(group.commit(now=world.now).message)
            case 1:
                return len(group.encrypt(b"x"))
            case 2:
                group.save()
                return len(client.take_log())
            case 3:
                return len(group.clone().process_many(messages))
            case _:
                return len(group.roster()) + group.epoch

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(work, range(100), timeout=60))) == 100
    assert len(asked) == 2 + 40
