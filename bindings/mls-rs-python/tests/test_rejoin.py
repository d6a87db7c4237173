"""Coming back after a loss of state: one's own leaf is replaced, and nobody else's."""

import time

import mls_rs
import pytest


@pytest.mark.parametrize("beside", [False, True], ids=["tree inside", "tree beside"])
def test_a_member_who_lost_its_state_replaces_its_own_leaf(world, beside):
    members = world.group(4)
    alice, bob, _, dora = members
    old = bob.group
    info = alice.group.group_info(tree=not beside)
    tree = alice.group.ratchet_tree() if beside else None
    back, commit = bob.client.rejoin(info, tree=tree, now=world.now)
    assert mls_rs.inspect(commit).content == "commit"
    for member in (alice, dora):
        done = member.group.process(commit)
        assert [m.signature_key for m in done.removed] == [bob.client.signature_key]
        assert [m.signature_key for m in done.added] == [bob.client.signature_key]
        assert done.committer == done.added[0]
        assert done.committer.index == back.own_index
        assert not done.removes_me
    assert back.epoch_authenticator == alice.group.epoch_authenticator
    assert back.roster() == alice.group.roster()
    assert alice.group.process(back.encrypt(b"here again")).plaintext == b"here again"
    assert back.process(dora.group.encrypt(b"welcome")).plaintext == b"welcome"
    # The replaced copy, should it still run somewhere, learns that it is out.
    assert old.process(commit).removes_me
    assert not old.active


def test_who_came_back_can_be_stored_and_goes_on(world, shelf):
    alice, bob = world.group(2)
    back, commit = bob.client.rejoin(alice.group.group_info(), now=world.now)
    alice.group.process(commit)
    back.save()
    shelf.take(bob.client)
    again = shelf.load(bob.client)
    pending = again.commit(now=world.now)
    again.apply(pending)
    alice.group.process(pending.message)
    assert again.epoch_authenticator == alice.group.epoch_authenticator


def test_who_has_no_leaf_cannot_come_back(world):
    alice, bob = world.group(2)
    with pytest.raises(mls_rs.NoSuchMember):
        world.client().rejoin(alice.group.group_info(), now=world.now)
    world.spread(alice.commit(remove=[1]), alice, [alice, bob])
    with pytest.raises(mls_rs.NoSuchMember):
        bob.client.rejoin(alice.group.group_info(), now=world.now)


def test_the_same_key_under_another_credential_is_a_stranger(world):
    seed = bytes([7]) * 32
    alice, bob = world.alone(), world.client(b"bob", seed=seed)
    alice.group.apply(alice.commit(add=[world.key_package(bob).message]))
    with pytest.raises(mls_rs.NoSuchMember):
        world.client(b"bobby", seed=seed).rejoin(alice.group.group_info(), now=world.now)


def test_a_stranger_does_not_take_the_leaf_of_a_member(world, outlaws):
    """Its credential is bob's, its key is not. mls-rs alone lets a program without rules do it."""
    alice, bob = world.group(2)
    message = outlaws(b"member 1").ask("external", alice.group.group_info(), 1)
    for group in (alice.group, bob.group):
        before = group.epoch_authenticator
        with pytest.raises(mls_rs.RefusedByRules) as refused:
            group.process(message)
        assert refused.value.code == "external-commit"
        assert group.epoch_authenticator == before


def test_a_member_of_another_program_may_come_back(world, outlaws):
    alice, bob = world.group(2)
    outlaw = outlaws()
    package = outlaw.ask("key-package")
    pending = alice.group.commit(add=[package], now=int(time.time()))
    world.spread(pending, alice, [alice, bob])
    message = outlaw.ask("external", alice.group.group_info(), 2)
    assert bob.group.process(message).removed[0].index == 2


def test_an_old_group_info_opens_nothing(world):
    alice, bob = world.group(2)
    info = alice.group.group_info()
    world.spread(alice.commit(), alice, [alice, bob])
    _, commit = bob.client.rejoin(info, now=world.now)
    with pytest.raises(mls_rs.EpochTooOld):
        alice.group.process(commit)


def test_a_tampered_group_info_is_refused(world):
    alice, bob = world.group(2)
    info = alice.group.group_info()
    for place in range(0, len(info), max(1, len(info) // 100)):
        with pytest.raises(mls_rs.MlsError):
            bob.client.rejoin(
                info[:place] + bytes([info[place] ^ 1]) + info[place + 1 :], now=world.now
            )
    for other in (alice.commit().message, info + b"\0", b""):
        with pytest.raises(mls_rs.DecodeError):
            bob.client.rejoin(other, now=world.now)
