"""Rules as data: who may add, remove and change the extensions, held by every member alike."""

import time

import mls_rs
import pytest

POLICY = 0xF001
"""The outlaw lists this type in its leaf too."""


def policy(*admins: bytes, **rules) -> tuple[int, bytes]:
    return POLICY, mls_rs.encode_policy(admins=admins, **rules)


def governed(world, extension, size=3):
    """Members `b"0:…"`, `b"1:…"`, … of a group with this policy; ids are the first two bytes."""
    clients = [world.client(b"%d:device" % i, policy=POLICY) for i in range(size)]
    first = clients[0].create_group(b"group", world.suite)
    packages = [world.key_package(client).message for client in clients[1:]]
    pending = first.commit(add=packages, extensions=[extension], now=world.now)
    first.apply(pending)
    return clients, [first, *(client.join(pending.welcome) for client in clients[1:])]


def refused_code(call):
    with pytest.raises(mls_rs.RefusedByRules) as refused:
        call()
    return refused.value.code


def test_only_admins_add_strangers_when_the_policy_says_so(classic):
    _, groups = governed(classic, policy(b"0:", add="admins", id_length=2))
    stranger = classic.key_package(classic.client(b"9:", policy=POLICY)).message

    def attempt():
        groups[1].commit(add=[stranger], now=classic.now)

    assert refused_code(attempt) == "add-not-allowed"
    pending = groups[0].commit(add=[stranger], now=classic.now)
    assert [len(group.process(pending.message).added) for group in groups[1:]] == [1, 1]


def test_everyone_adds_when_the_policy_says_so(classic):
    _, groups = governed(classic, policy(b"0:", id_length=2))
    stranger = classic.key_package(classic.client(b"9:", policy=POLICY)).message
    pending = groups[1].commit(add=[stranger], now=classic.now)
    assert groups[2].process(pending.message).added[0].credential == b"9:"


def test_a_member_s_own_leaves_are_its_own_business(classic):
    """A second device of member 1: added and removed by member 1, added by no other."""
    _, groups = governed(classic, policy(b"0:", add="nobody", remove="nobody", id_length=2))
    second = classic.client(b"1:second device", policy=POLICY)
    package = classic.key_package(second).message

    def foreign():
        groups[2].commit(add=[package], now=classic.now)

    assert refused_code(foreign) == "add-for-another"
    pending = groups[1].commit(add=[package], now=classic.now)
    for group in (groups[0], groups[2]):
        group.process(pending.message)
    groups[1].apply(pending)
    joined = second.join(pending.welcome)
    pending = joined.commit(remove=[1], now=classic.now)
    assert groups[0].process(pending.message).removed[0].credential == b"1:device"

    def stranger():
        package = classic.key_package(classic.client(b"9:", policy=POLICY)).message
        groups[0].commit(add=[package], now=classic.now)

    assert refused_code(stranger) == "add-not-allowed", "nobody: not even an admin"


def test_only_admins_remove_others_and_change_the_extensions(classic):
    _, groups = governed(classic, policy(b"0:", id_length=2))
    after = policy(b"0:", b"1:", id_length=2)

    def remove():
        groups[1].commit(remove=[2], now=classic.now)

    def change():
        groups[1].commit(extensions=[after], now=classic.now)

    assert refused_code(remove) == "remove-not-allowed"
    assert refused_code(change) == "extensions-not-allowed"
    pending = groups[0].commit(extensions=[after], now=classic.now)
    for group in groups[1:]:
        assert group.process(pending.message).updated_extensions
    groups[0].apply(pending)
    # The rules hold as they stood before a commit, from the next one on.
    pending = groups[1].commit(remove=[2], now=classic.now)
    assert groups[0].process(pending.message).removed[0].index == 2


def test_a_role_is_not_taken_by_the_commit_that_grants_it(classic):
    _, groups = governed(classic, policy(b"0:", id_length=2))
    mine = policy(b"1:", id_length=2)

    def attempt():
        groups[1].commit(extensions=[mine], remove=[0], now=classic.now)

    assert refused_code(attempt) == "remove-not-allowed"


def test_without_an_admin_left_everybody_governs(classic):
    """A group must not become unchangeable because its last admin is gone."""
    _, groups = governed(classic, policy(b"7:", add="admins", id_length=2))
    pending = groups[2].commit(remove=[0], now=classic.now)
    assert groups[1].process(pending.message).removed[0].credential == b"0:device"


@pytest.mark.parametrize(
    ("code", "verb", "arguments"),
    [
        ("add-not-allowed", "commit-add", lambda key_package: [key_package]),
        ("remove-not-allowed", "commit-remove", lambda _: [1]),
        (
            "extensions-not-allowed",
            "commit-extension",
            lambda _: [POLICY, mls_rs.encode_policy(admins=[b"ou"], id_length=2)],
        ),
        ("policy-malformed", "commit-extension", lambda _: [POLICY, b"\x01\x07"]),
    ],
)
def test_a_member_who_ignores_the_policy_is_refused_by_all(world, outlaws, code, verb, arguments):
    """Own commits are checked by the sender; this one is made by a program that does not."""
    _, groups = governed(world, policy(b"0:", add="admins", id_length=2), 2)
    outlaw = outlaws()
    package = outlaw.ask("key-package")
    pending = groups[0].commit(add=[package], now=int(time.time()))
    groups[1].process(pending.message)
    groups[0].apply(pending)
    outlaw.ask("join", pending.welcome)
    stranger = world.key_package(world.client(b"9:", policy=POLICY), now=int(time.time())).message
    message = outlaw.ask(verb, *arguments(stranger))
    for group in groups:
        before = group.epoch_authenticator
        assert refused_code(lambda group=group: group.process(message)) == code
        assert group.epoch_authenticator == before


def test_whole_credentials_as_ids(classic):
    _, groups = governed(classic, (POLICY, mls_rs.encode_policy(admins=[b"1:device"])))

    def attempt():
        groups[0].commit(remove=[2], now=classic.now)

    assert refused_code(attempt) == "remove-not-allowed"
    groups[1].commit(remove=[2], now=classic.now)


def test_a_malformed_policy_makes_no_group_and_is_not_joined(classic):
    good = mls_rs.encode_policy(admins=[b"a", b"bc"])
    client = classic.client(policy=POLICY)
    bad = [b"", good[:-1], good + b"\0", b"\x02" + good[1:], b"\x01\x03" + good[2:]]
    bad.append(b"\x01\x00\x01\x00\x00\x02\x00\x01a\x00\x01a")  # an admin named twice
    for data in bad:
        assert (
            refused_code(lambda data=data: client.create_group(b"g", 1, [(POLICY, data)]))
            == "policy-malformed"
        )
    careless = classic.client()
    group = careless.create_group(b"g", classic.suite, [(POLICY, bad[1])])
    pending = group.commit(add=[classic.key_package(client).message], now=classic.now)
    assert refused_code(lambda: client.join(pending.welcome)) == "policy-malformed"


def test_the_layout_is_the_documented_one():
    assert mls_rs.encode_policy(admins=[b"ab", b"cd"], add="admins", id_length=2) == (
        b"\x01\x01\x01\x02\x00\x02abcd"
    )
    assert mls_rs.encode_policy(admins=[b"abc"], remove="nobody") == (
        b"\x01\x00\x02\x00\x00\x01\x00\x03abc"
    )
    for wrong in (
        {"admins": [b"a"], "id_length": 2},
        {"admins": [b"a", b"a"]},
        {"admins": [], "add": "friends"},
    ):
        with pytest.raises(ValueError, match="a"):
            mls_rs.encode_policy(**wrong)
