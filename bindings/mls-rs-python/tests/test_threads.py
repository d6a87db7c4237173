"""Objects shared between threads: nothing is lost, nothing repeats, nothing hangs."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import mls_rs
import pytest


def test_concurrent_encryptions_have_unique_generations(classic):
    alice, bob = classic.group(2)
    with ThreadPoolExecutor(8) as pool:
        messages = list(pool.map(lambda i: alice.group.encrypt(b"%d" % i), range(2_000)))
    assert len(set(messages)) == 2_000

    # The threads finished in another order than the generations: the spread stays below the
    # limit of 1,024 skipped keys, so each opens, and each exactly once.
    opened = sorted(int(bob.group.process(message).plaintext) for message in messages)
    assert opened == list(range(2_000))


def test_validators_and_waiting_threads_do_not_deadlock(world):
    """A validator needs the interpreter while other threads wait for its group."""
    calls = []

    def validate(signature_key, credential):
        calls.append(credential)
        for _ in range(100):
            sum(range(100))

    alice = world.alone(validate=validate)
    packages = [world.key_package(world.client(b"%d" % i)).message for i in range(8)]

    def work(index):
        match index % 4:
            case 0:
                return len(alice.commit(add=[packages[index % 8]]).message)
            case 1:
                return len(alice.group.encrypt(b"x"))
            case 2:
                alice.group.save()
                return len(alice.client.take_log())
            case _:
                return len(alice.group.clone().roster()) + alice.group.epoch

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(160), timeout=60))
    assert len(results) == 160
    assert len(calls) > 40


def test_saves_of_many_groups_stay_together_in_the_log(classic):
    client = classic.client()
    groups = [client.create_group(b"%d" % i, mls_rs.CLASSIC) for i in range(8)]

    def work(index):
        group = groups[index % 8]
        group.save(tree=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    log = client.take_log()
    assert len(log) == 800
    for state, tree in zip(log[::2], log[1::2], strict=True):
        assert (state.kind, tree.kind, state.group_id) == ("state", "tree", tree.group_id)


@pytest.mark.parametrize("operation", ["commit", "apply", "process", "join", "load"])
def test_other_threads_run_during_long_operations(classic, operation):
    """Another thread looks at the clock while one operation of milliseconds runs, again and again.

    If the interpreter were held, it never could in the midst of one.
    """
    alice, bob, carol = classic.alone(), classic.client(b"bob"), classic.client(b"carol")
    first = [classic.key_package(client).message for client in (bob, carol)]
    alice.group.apply(pending := alice.commit(add=first))
    joined = bob.join(pending.welcome)
    packages = [classic.key_package(classic.client(b"%d" % i)).message for i in range(150)]
    late = classic.client(b"late")
    pending = alice.commit(add=[*packages, classic.key_package(late).message])
    alice.group.save()
    after = alice.group.clone()
    after.apply(pending)
    after.save(tree=True)
    rows = {entry.kind: entry.data for entry in alice.client.take_log()}
    prepare = {
        "commit": lambda: lambda: alice.commit(add=packages),
        "apply": lambda: partial(alice.group.clone().apply, pending),
        "process": lambda: partial(joined.clone().process, pending.message),
        "join": lambda: partial(late.join, pending.welcome),
        "load": lambda: partial(alice.client.load_group, b"group", rows["state"], rows["tree"]),
    }[operation]

    stop = threading.Event()
    ticks = []

    def watch():
        while not stop.is_set():
            ticks.append(time.perf_counter())

    def ticked(low: float, high: float) -> bool:
        # The first and last tenth may be Python's own work, with the interpreter held.
        edge = (high - low) / 10
        return any(low + edge < tick < high - edge for tick in ticks)

    thread = threading.Thread(target=watch)
    thread.start()
    seen = 0
    try:
        # A busy machine may not give the other thread a core each time.
        deadline = time.monotonic() + 20
        while seen < 3 and time.monotonic() < deadline:
            run = prepare()
            ticks.clear()
            started = time.perf_counter()
            run()
            seen += ticked(started, time.perf_counter())
    finally:
        stop.set()
        thread.join()
    assert seen == 3
