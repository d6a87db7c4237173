"""Sending without storing the state each time: ciphertext and next generation are enough."""

import mls_rs
import pytest


def test_an_old_state_skips_forward_and_repeats_no_key(world, shelf):
    """The sender loses 500 states; its next message uses a key that none of the 500 used."""
    alice, bob = world.group(2)
    alice.group.encrypt(b"before the state was stored")
    alice.group.save()
    shelf.take(alice.client)
    assert alice.group.next_generation == 1
    sent = [(alice.group.encrypt(b"%d" % i), alice.group.next_generation) for i in range(500)]
    assert [generation for _, generation in sent] == list(range(2, 502))

    again = shelf.load(alice.client)
    assert again.next_generation == 1
    again.skip_to_generation(sent[-1][1])
    assert again.next_generation == 501
    after = again.encrypt(b"after")
    # A repeated generation would be refused at the second use: every one opens, in any order.
    assert bob.group.process(after).plaintext == b"after"
    for index in reversed(range(500)):
        assert bob.group.process(sent[index][0]).plaintext == b"%d" % index


def test_without_skipping_the_message_is_lost(classic, shelf):
    """What the test above would see if skipping did nothing."""
    alice, bob = classic.group(2)
    alice.group.save()
    shelf.take(alice.client)
    sent = alice.group.encrypt(b"first")
    again = shelf.load(alice.client)
    bob.group.process(sent)
    with pytest.raises(mls_rs.KeyUnavailable):
        bob.group.process(again.encrypt(b"second"))


def test_skipping_goes_forward_only_and_not_too_far(world):
    alice, bob = world.group(2)
    alice.group.skip_to_generation(7)
    alice.group.skip_to_generation(7)
    with pytest.raises(mls_rs.KeyUnavailable) as refused:
        alice.group.skip_to_generation(6)
    assert refused.value.code == "generation-used"
    for far in (7 + 2**20 + 1, 2**32 - 1):
        with pytest.raises(mls_rs.KeyUnavailable) as refused:
            alice.group.skip_to_generation(far)
        assert refused.value.code == "generation-too-far"
    for impossible in (-1, 2**32):
        with pytest.raises(OverflowError):
            alice.group.skip_to_generation(impossible)
    assert alice.group.next_generation == 7
    assert bob.group.process(alice.group.encrypt(b"x")).plaintext == b"x"


def test_generations_start_anew_in_each_epoch(classic):
    members = classic.group(2)
    alice, bob = members
    alice.group.skip_to_generation(3)
    pending = alice.commit()
    assert alice.group.next_generation == 3, "a commit is a public message: it uses none"
    classic.spread(pending, alice, members)
    assert (alice.group.next_generation, bob.group.next_generation) == (0, 0)


def test_a_removed_member_has_no_next_generation(classic):
    alice, bob = classic.group(2)
    bob.group.process(alice.commit(remove=[1]).message)
    with pytest.raises(mls_rs.NotActive):
        bob.group.next_generation  # noqa: B018 - reading it is the point
    with pytest.raises(mls_rs.NotActive):
        bob.group.skip_to_generation(1)
