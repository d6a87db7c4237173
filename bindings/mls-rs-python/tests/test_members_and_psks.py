"""Looking members up, the tree's hash, and pre-shared keys."""

import mls_rs
import pytest


def test_members_are_found_by_key_and_by_credential(world):
    members = world.group(3)
    group = members[0].group
    for index, member in enumerate(members):
        found = group.find_member(member.client.signature_key)
        assert found == group.roster()[index]
        assert group.find_members(b"member %d" % index) == [found]
    assert group.find_member(bytes(32)) is None
    assert group.find_members(b"nobody") == []
    world.spread(members[1].commit(remove=[2]), members[1], members[:2])
    assert group.find_member(members[2].client.signature_key) is None
    newcomer = world.client(b"member 1")
    pending = members[0].commit(add=[world.key_package(newcomer).message])
    group.apply(pending)
    assert group.find_member(newcomer.signature_key).index == 2
    assert [m.index for m in group.find_members(b"member 1")] == [1, 2]


def test_the_tree_hash_is_shared_and_changes(world):
    members = world.group(2)
    before = members[0].group.tree_hash
    assert before == members[1].group.tree_hash
    world.spread(members[0].commit(), members[0], members)
    assert members[0].group.tree_hash == members[1].group.tree_hash != before


def test_a_commit_with_a_pre_shared_key_needs_it_at_every_member(world):
    members = world.group(3)
    alice, bob, carol = members
    for member in (alice, bob):
        member.client.add_psk(b"lunch", b"a secret told at lunch")
    carol.client.add_psk(b"lunch", b"what carol thinks it was")
    pending = alice.commit(psk=[b"lunch"])
    bob.group.process(pending.message)
    before = carol.group.epoch_authenticator
    with pytest.raises(mls_rs.AuthenticationFailed):
        carol.group.process(pending.message)
    carol.client.remove_psk(b"lunch")
    with pytest.raises(mls_rs.InvalidCommit) as refused:
        carol.group.process(pending.message)
    assert refused.value.code == "missing-required-psk"
    assert carol.group.epoch_authenticator == before
    carol.client.add_psk(b"lunch", b"a secret told at lunch")
    carol.group.process(pending.message)
    alice.group.apply(pending)
    assert world.agree(members)


def test_a_welcome_with_a_pre_shared_key(world):
    alice, bob = world.alone(), world.client()
    alice.client.add_psk(b"id", b"secret")
    pending = alice.commit(add=[world.key_package(bob).message], psk=[b"id"])
    alice.group.apply(pending)
    with pytest.raises(mls_rs.MlsError):
        bob.join(pending.welcome)
    bob.add_psk(b"id", b"secret")
    assert bob.join(pending.welcome).epoch_authenticator == alice.group.epoch_authenticator


def test_an_unknown_pre_shared_key_is_a_mistake_of_the_caller(classic):
    (alice,) = classic.group(1)
    with pytest.raises(ValueError, match="pre-shared"):
        alice.commit(psk=[b"never added"])
    alice.client.remove_psk(b"never added")
