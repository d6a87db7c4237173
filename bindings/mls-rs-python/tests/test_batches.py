"""Many messages at once mean what they mean one by one."""

import mls_rs
import pytest


def flipped(message: bytes) -> bytes:
    return message[:-1] + bytes([message[-1] ^ 1])


def test_a_batch_of_everything(world):
    """Messages, a late one, a duplicate, a tampered one and its original, commits, noise."""
    members = world.group(3)
    alice, bob, carol = members
    late = alice.group.encrypt(b"late")
    one, two, three = (carol.group.encrypt(b"%d" % i) for i in range(3))
    world.spread(pending := carol.commit(), carol, [alice, carol])
    four = alice.group.encrypt(b"4")
    batch = [two, flipped(one), one, one, pending.message, late, b"noise", flipped(four), four]
    single = bob.group.clone()
    one_by_one = []
    for message in [*batch, three]:
        try:
            one_by_one.append(describe(single.process(message)))
        except mls_rs.MlsError as error:
            one_by_one.append(describe(error))
    many = [describe(result) for result in bob.group.process_many([*batch, three])]
    assert many == one_by_one
    assert many == [
        ("message", b"1"),
        ("error", "AuthenticationFailed"),
        ("message", b"0"),
        ("error", "KeyUnavailable"),
        ("commit", 2),
        ("message", b"late"),
        ("error", "DecodeError"),
        ("error", "AuthenticationFailed"),
        ("message", b"4"),
        ("message", b"2"),
    ]
    assert bob.group.epoch_authenticator == alice.group.epoch_authenticator


def describe(result):
    match result:
        case mls_rs.Message():
            return "message", result.plaintext
        case mls_rs.Commit():
            return "commit", result.epoch
        case mls_rs.MlsError():
            return "error", type(result).__name__


def test_a_flipped_byte_burns_nothing_in_a_batch(world):
    """Every other message is a tampered copy that arrives before its original."""
    alice, bob = world.group(2)
    messages = [alice.group.encrypt(b"%d" % i) for i in range(20)]
    batch = [copy for message in messages for copy in (flipped(message), message)]
    results = bob.group.process_many(batch)
    assert all(isinstance(r, mls_rs.AuthenticationFailed) for r in results[::2])
    assert [r.plaintext for r in results[1::2]] == [b"%d" % i for i in range(20)]
    assert results[0].code == "decryption-failed"


def test_going_back_repeats_no_own_key(world):
    """A tampered message undoes those opened since the last clone, and never what was sent."""
    alice, bob = world.group(2)
    bob.group.process(alice.group.encrypt(b"first"))
    sent = [bob.group.encrypt(b"%d" % i) for i in range(5)]
    opened = alice.group.encrypt(b"second")
    bob.group.process(opened)
    bad = flipped(precious := alice.group.encrypt(b"precious"))
    with pytest.raises(mls_rs.AuthenticationFailed):
        bob.group.process(bad)
    assert bob.group.next_generation == 5
    sent.append(bob.group.encrypt(b"5"))
    assert [alice.group.process(m).plaintext for m in sent] == [b"%d" % i for i in range(6)]
    with pytest.raises(mls_rs.KeyUnavailable):
        bob.group.process(opened)
    assert bob.group.process(precious).plaintext == b"precious"


def test_many_messages_with_a_tampered_one_now_and_then(classic):
    """More than are done again at once, so that several clones are taken and gone back to."""
    alice, bob = classic.group(2)
    for i in range(200):
        message = alice.group.encrypt(b"%d" % i)
        if i % 37 == 0:
            with pytest.raises(mls_rs.AuthenticationFailed):
                bob.group.process(flipped(message))
        if i % 50 == 0:
            bob.group.save()
        assert bob.group.process(message).plaintext == b"%d" % i
        with pytest.raises(mls_rs.KeyUnavailable):
            bob.group.process(message)
    kinds = [entry.kind for entry in bob.client.take_log()]
    assert kinds.count("tree") == 1
    assert kinds.count("key-package-delete") == 1


def test_a_batch_after_one_s_removal(classic):
    alice, bob = classic.group(2)
    before = alice.group.encrypt(b"x")
    pending = alice.commit(remove=[1])
    results = bob.group.process_many([pending.message, before])
    assert results[0].removes_me
    assert isinstance(results[1], mls_rs.NotActive)
    assert not bob.group.active


def test_an_interrupt_passes_through_a_batch(classic):
    def validate(signature_key, credential):
        if credential == b"bob":
            raise KeyboardInterrupt

    alice, carol = classic.alone(), classic.client(b"carol", validate=validate)
    alice.group.apply(pending := alice.commit(add=[classic.key_package(carol).message]))
    joined = carol.join(pending.welcome)
    pending = alice.commit(add=[classic.key_package(classic.client(b"bob")).message])
    with pytest.raises(KeyboardInterrupt):
        joined.process_many([alice.group.encrypt(b"x"), pending.message])


def test_an_empty_batch(classic):
    (alice,) = classic.group(1)
    assert alice.group.process_many([]) == []
