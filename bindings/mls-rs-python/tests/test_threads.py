"""Objects shared between threads: nothing is lost, nothing repeats, nothing hangs."""

from concurrent.futures import ThreadPoolExecutor

import mls_rs


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
