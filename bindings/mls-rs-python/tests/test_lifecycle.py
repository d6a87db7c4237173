"""What members do with a group: add, remove, update, join, talk."""

import mls_rs
import pytest


def test_create_add_join_and_talk_both_ways(world):
    alice, bob = world.alone(b"alice"), world.client(b"bob")
    package = world.key_package(bob)
    assert alice.group.epoch == 0
    pending = alice.commit(add=[package.message], authenticated_data=b"why")
    assert alice.group.epoch == 0, "a detached commit leaves the group as it is"
    commit = alice.group.apply(pending)
    assert (commit.epoch, commit.authenticated_data, commit.removed) == (1, b"why", [])
    assert [(m.index, m.credential) for m in commit.added] == [(1, b"bob")]
    assert (commit.committer.index, commit.committer.credential) == (0, b"alice")
    assert not commit.updated_extensions
    assert not commit.removes_me
    assert mls_rs.welcome_references(pending.welcome) == [package.reference]
    joined = bob.join(pending.welcome)
    assert joined.epoch_authenticator == alice.group.epoch_authenticator
    assert (joined.group_id, joined.suite, joined.own_index) == (b"group", world.suite, 1)
    assert joined.roster() == alice.group.roster()
    assert [m.signature_key for m in joined.roster()] == [
        alice.client.signature_key,
        bob.signature_key,
    ]
    message = joined.process(alice.group.encrypt(b"hello", b"head"))
    assert (message.plaintext, message.authenticated_data) == (b"hello", b"head")
    assert (message.sender.index, message.epoch) == (0, 1)
    assert alice.group.process(joined.encrypt(b"")).plaintext == b""


def test_the_tree_can_travel_beside_the_welcome(world):
    alice, bob = world.alone(), world.client()
    pending = alice.commit(add=[world.key_package(bob).message], tree_in_welcome=False)
    inside = alice.commit(add=[world.key_package(bob).message])
    assert inside.tree is None
    assert len(pending.welcome) < len(inside.welcome)
    with pytest.raises(mls_rs.InvalidCommit) as refused:
        bob.join(pending.welcome)
    assert refused.value.code == "ratchet-tree-not-found"
    alice.group.apply(pending)
    assert pending.tree == alice.group.ratchet_tree()
    assert bob.join(pending.welcome, tree=pending.tree).epoch == 1


def test_a_commit_without_additions_has_neither_welcome_nor_tree(world):
    (alice,) = world.group(1)
    pending = alice.commit(tree_in_welcome=False)
    assert (pending.welcome, pending.tree) == (None, None)


def test_an_empty_commit_updates_the_path(world):
    members = world.group(3)
    before = members[0].group.ratchet_tree()
    pending = members[1].commit()
    commit = members[0].group.process(pending.message)
    assert (commit.added, commit.removed, commit.committer.index) == ([], [], 1)
    members[1].group.apply(pending)
    members[2].group.process(pending.message)
    assert world.agree(members)
    assert members[0].group.ratchet_tree() != before


def test_removal_and_addition_in_one_commit_reuse_the_leaf(world):
    members = world.group(4)
    newcomer = world.client(b"new")
    pending = members[0].commit(add=[world.key_package(newcomer).message], remove=[1])
    commits = [m.group.process(pending.message) for m in members[1:]]
    for commit in [members[0].group.apply(pending), *commits]:
        assert [(m.index, m.credential) for m in commit.removed] == [(1, b"member 1")]
        assert [(m.index, m.credential) for m in commit.added] == [(1, b"new")]
        assert commit.epoch == 2
    assert [c.removes_me for c in commits] == [True, False, False]
    joined = newcomer.join(pending.welcome)
    assert joined.own_index == 1
    assert members[2].group.process(joined.encrypt(b"hi")).sender.credential == b"new"


def test_a_removed_member_is_told_and_can_do_nothing_more(world, shelf):
    alice, bob = world.group(2)
    pending = alice.commit(remove=[1])
    assert bob.group.active
    assert bob.group.process(pending.message).removes_me
    alice.group.apply(pending)
    message = alice.group.encrypt(b"without bob")
    bob.group.save()
    shelf.take(bob.client)
    for group in (bob.group, shelf.load(bob.client), bob.group.clone()):
        assert not group.active
        for attempt in (
            lambda group=group: group.encrypt(b"x"),
            lambda group=group: group.commit(now=world.now),
            lambda group=group: group.process(message),
            lambda group=group: group.apply(pending),
            lambda group=group: group.export_secret(b"l", b"c", 32),
        ):
            with pytest.raises(mls_rs.NotActive) as refused:
                attempt()
            assert refused.value.code == "not-active"
        assert len(group.roster()) == 2, "what is not secret can still be read"


def test_extensions_are_replaced_as_a_whole(world):
    client = world.client()
    group = client.create_group(b"group", world.suite, [(0xF001, b"one")])
    bob = world.client()
    assert group.extension(0xF001) == b"one"
    assert group.extension(0xF002) is None
    package = world.key_package(bob).message
    pending = group.commit(add=[package], extensions=[(0xF001, b"two")], now=world.now)
    assert group.apply(pending).updated_extensions
    assert group.extension(0xF001) == b"two"
    assert bob.join(pending.welcome).extension(0xF001) == b"two"
    pending = group.commit(extensions=[], now=world.now)
    group.apply(pending)
    assert group.extension(0xF001) is None
    with pytest.raises(mls_rs.InvalidCommit) as refused:
        group.commit(extensions=[(0xF009, b"")], now=world.now)
    assert refused.value.code == "unsupported-group-extension"
    with pytest.raises(ValueError, match="twice"):
        group.commit(extensions=[(0xF001, b""), (0xF001, b"")], now=world.now)


def test_late_messages_of_prior_epochs_out_of_order(world):
    members = world.group(3)
    alice, bob, carol = members
    early = [bob.group.encrypt(b"early %d" % i) for i in range(5)]
    world.spread(alice.commit(), alice, members)
    middle = [bob.group.encrypt(b"middle %d" % i) for i in range(5)]
    world.spread(carol.commit(), carol, members)
    for index in (4, 0, 2, 1, 3):
        message = alice.group.process(early[index])
        assert (message.plaintext, message.epoch) == (b"early %d" % index, 1)
        assert alice.group.process(middle[index]).epoch == 2
    with pytest.raises(mls_rs.KeyUnavailable) as refused:
        alice.group.process(early[2])
    assert refused.value.code == "key-used"


def test_a_late_message_of_somebody_who_left_is_refused_with_its_reason(world):
    members = world.group(3)
    late = members[2].group.encrypt(b"bye")
    world.spread(members[0].commit(remove=[2]), members[0], members)
    with pytest.raises(mls_rs.NoSuchMember) as refused:
        members[1].group.process(late)
    assert refused.value.code == "sender-left"


def test_epochs_beyond_memory_are_too_old(classic, shelf):
    alice, bob = classic.group(2)
    late = bob.group.encrypt(b"late")
    for _ in range(17):
        classic.spread(alice.commit(), alice, [alice, bob])
        alice.group.save()
    with pytest.raises(mls_rs.EpochTooOld) as refused:
        alice.group.process(late)
    assert refused.value.code == "epoch-secrets-gone"


def test_exported_secrets_agree_and_depend_on_everything(world):
    alice, bob = world.group(2)
    one = alice.group.export_secret(b"label", b"context", 48)
    assert len(one) == 48
    assert one == bob.group.export_secret(b"label", b"context", 48)
    assert one != alice.group.export_secret(b"other", b"context", 48)
    assert one != alice.group.export_secret(b"label", b"other", 48)
    for length in (0, 8161):
        with pytest.raises(ValueError, match="length"):
            alice.group.export_secret(b"label", b"context", length)
    assert len(alice.group.export_secret(b"label", b"context", 8160)) == 8160


def test_a_clone_lives_its_own_life(world):
    alice, bob = world.group(2)
    copy = alice.group.clone()
    copy.apply(copy.commit(now=world.now))
    assert (copy.epoch, alice.group.epoch) == (2, 1)
    copy.save()
    assert bob.group.process(alice.group.encrypt(b"still here")).plaintext == b"still here"


def test_last_resort_packages_serve_more_than_once(world):
    bob = world.client()
    package = world.key_package(bob, last_resort=True)
    assert mls_rs.verify_key_package(package.message).last_resort
    bob.take_log()
    for name in (b"one", b"two"):
        alice = world.alone(name)
        joined = bob.join(alice.commit(add=[package.message]).welcome)
        joined.save()
    assert "key-package-delete" not in [entry.kind for entry in bob.take_log()]


def test_key_packages_say_what_they_are(world):
    bob = world.client(b"bob")
    package = world.key_package(bob)
    info = mls_rs.verify_key_package(package.message)
    assert (info.suite, info.credential) == (world.suite, b"bob")
    assert (info.signature_key, info.reference) == (bob.signature_key, package.reference)
    assert (info.not_before, info.not_after) == (world.now - 3600, world.now + 90 * 86_400)
    assert not info.last_resort
    assert len(package.reference) == 32
    with pytest.raises(ValueError, match="too late"):
        world.key_package(bob, lifetime_s=2**63)


def test_headers_can_be_read_without_a_key(world):
    alice, bob = world.alone(), world.client()
    package = world.key_package(bob)
    pending = alice.commit(add=[package.message])
    alice.group.apply(pending)

    def header(message):
        h = mls_rs.inspect(message)
        return h.kind, h.content, h.group_id, h.epoch

    assert header(package.message) == ("key-package", None, None, None)
    assert header(pending.message) == ("public", "commit", b"group", 0)
    assert header(pending.welcome) == ("welcome", None, None, None)
    assert header(alice.group.encrypt(b"")) == ("private", "application", b"group", 1)


def test_a_hundred_members(classic):
    members = classic.group(100)
    pending = members[57].commit(remove=[3, 99])
    keep = [m for m in members if m.group.own_index not in (3, 99)]
    classic.spread(pending, members[57], keep)
    assert classic.agree(keep)
    assert len(keep[0].group.roster()) == 98
    keep[0].group.save()
    sizes = {entry.kind: len(entry.data) for entry in keep[0].client.take_log()}
    assert sizes["state"] < 3_000
    assert sizes["tree"] < 40_000
    assert sizes["epoch-insert"] < 8_000
    assert len(keep[1].group.encrypt(bytes(256))) < 500


def test_lengths_of_short_messages_are_hidden(classic):
    (alice,) = classic.group(1)
    assert len({len(alice.group.encrypt(bytes(n))) for n in range(16)}) <= 2


def test_ed25519_key_of_rfc_8032():
    """The public key is derived from the seed (RFC 8032 section 7.1, test 1)."""
    client = mls_rs.Client(
        signing_seed=bytes.fromhex(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        ),
        credential=b"",
        storage_key=bytes(32),
        validate_credential=lambda key, credential: None,
    )
    assert client.signature_key.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )


def test_wrong_arguments_are_value_errors(classic):
    good = {"signing_seed": bytes(32), "credential": b"", "storage_key": bytes(32)}
    for bad in ({"signing_seed": bytes(31)}, {"storage_key": bytes(33)}):
        with pytest.raises(ValueError, match="32 bytes"):
            mls_rs.Client(**(good | bad), validate_credential=print)
    with pytest.raises(TypeError, match="callable"):
        mls_rs.Client(**good, validate_credential=None)
    with pytest.raises(ValueError, match="suite"):
        classic.client().create_group(b"g", 2)
    with pytest.raises(ValueError, match="suite"):
        classic.client().key_package(7, now=0, lifetime_s=1)
