"""The log, the sealed blobs, and what comes back from them."""

import os

import blobs
import mls_rs
import pytest


def kinds(client):
    return [entry.kind for entry in client.take_log()]


def test_nothing_is_written_before_save(world):
    alice, bob = world.group(2)
    copy = alice.group.clone()
    copy.save()
    assert kinds(alice.client) == ["state", "tree", "epoch-insert"]
    bob.group.process(alice.group.encrypt(b"x"))
    world.spread(alice.commit(), alice, [alice, bob])
    alice.group.clone()
    assert kinds(alice.client) == kinds(bob.client) == []


def test_the_log_is_in_order_and_complete(world):
    alice, bob = world.alone(), world.client()
    package = world.key_package(bob)
    (entry,) = bob.take_log()
    assert (entry.kind, entry.group_id, entry.id) == (
        "key-package-insert",
        None,
        package.reference,
    )
    alice.group.save()
    entries = alice.client.take_log()
    assert [(e.kind, e.group_id, e.id) for e in entries] == [
        ("state", b"group", None),
        ("tree", b"group", None),
    ]
    pending = alice.commit(add=[package.message])
    alice.group.apply(pending)
    alice.group.save()
    entries = alice.client.take_log()
    assert [(e.kind, e.id) for e in entries] == [
        ("state", None),
        ("tree", None),
        ("epoch-insert", 0),
    ]
    assert all(isinstance(e.data, bytes) for e in entries)
    joined = bob.join(pending.welcome)
    assert kinds(bob) == [], "the KeyPackage is deleted by saving, not by joining"
    joined.save()
    entries = bob.take_log()
    assert [(e.kind, e.id) for e in entries] == [
        ("state", None),
        ("tree", None),
        ("key-package-delete", package.reference),
    ]
    assert entries[-1].data is None
    joined.save()
    assert kinds(bob) == ["state"], "one deletion, and the tree only when the epoch changed"


def test_a_key_package_serves_again_if_the_join_was_not_saved(world):
    alice, bob = world.alone(), world.client()
    pending = alice.commit(add=[world.key_package(bob).message])
    bob.join(pending.welcome)
    joined = bob.join(pending.welcome)
    joined.save()
    with pytest.raises(mls_rs.UnknownKeyPackage):
        bob.join(pending.welcome)


def test_the_tree_is_written_when_it_changed_or_as_told(world):
    alice, _ = world.group(2)
    alice.group.save()
    assert kinds(alice.client) == ["state", "tree", "epoch-insert"]
    alice.group.encrypt(b"x")
    alice.group.save()
    alice.group.save(tree=True)
    assert kinds(alice.client) == ["state", "state", "tree"]
    old = alice.group.clone()
    alice.group.apply(alice.commit())
    alice.group.save(tree=False)
    assert kinds(alice.client) == ["state", "epoch-insert"]
    alice.group.save()
    assert kinds(alice.client) == ["state", "tree"]
    old.save()
    assert kinds(alice.client) == ["state", "tree"], "another tree was stored in between"


def test_late_messages_update_epoch_rows(world, shelf):
    alice, bob = world.group(2)
    first, second = bob.group.encrypt(b"1"), bob.group.encrypt(b"2")
    world.spread(alice.commit(), alice, [alice, bob])
    alice.group.process(first)
    alice.group.save()
    assert shelf.take(alice.client) == ["state", "tree", "epoch-insert", "epoch-insert"]
    group = shelf.load(alice.client)
    assert group.process(second).plaintext == b"2"
    with pytest.raises(mls_rs.KeyUnavailable):
        group.process(first)
    group.save()
    assert shelf.take(alice.client) == ["state", "epoch-update"]
    with pytest.raises(mls_rs.KeyUnavailable):
        shelf.load(alice.client).process(second)


def test_a_group_can_be_loaded_at_any_point(world, shelf):
    """Every step of bob's happens in a group that was just loaded, by a client just made."""
    seed, key = os.urandom(32), os.urandom(32)

    def bob():
        return world.client(b"bob", seed=seed, storage_key=key)

    alice = world.alone(b"alice")
    client = bob()
    package = world.key_package(client)
    shelf.take(client)
    client = bob()
    for reference, blob in shelf.packages.items():
        client.restore_key_package(reference, blob)
    pending = alice.commit(add=[package.message])
    alice.group.apply(pending)
    client.join(pending.welcome).save()
    shelf.take(client)
    assert shelf.packages == {}

    for step in range(12):
        client = bob()
        group = shelf.load(client)
        assert group.epoch_authenticator == alice.group.epoch_authenticator
        assert group.ratchet_tree() == alice.group.ratchet_tree()
        match step % 4:
            case 0:
                message = group.encrypt(b"from bob %d" % step)
                group.save()
                assert alice.group.process(message).plaintext == b"from bob %d" % step
            case 1:
                assert group.process(alice.group.encrypt(b"from alice")).sender.index == 0
                group.save()
            case 2:
                pending = alice.commit()
                alice.group.apply(pending)
                group.process(pending.message)
                group.save()
            case 3:
                pending = group.commit(now=world.now)
                blob = pending.seal()
                group.save()
                shelf.take(client)
                client = bob()
                group = shelf.load(client)
                again = client.open_pending_commit(blob)
                assert (again.message, again.welcome) == (pending.message, None)
                group.apply(again)
                alice.group.process(again.message)
                group.save()
        shelf.take(client)
    assert sorted(shelf.epochs) == list(range(1, alice.group.epoch))


def test_a_sealed_commit_keeps_welcome_and_tree(world):
    alice, bob = world.alone(), world.client()
    pending = alice.commit(add=[world.key_package(bob).message], tree_in_welcome=False)
    again = alice.client.open_pending_commit(pending.seal())
    assert (again.message, again.welcome, again.tree) == (
        pending.message,
        pending.welcome,
        pending.tree,
    )
    assert alice.group.apply(again).added[0].index == 1
    assert bob.join(again.welcome, tree=again.tree).epoch == 1
    with pytest.raises(mls_rs.StaleCommit):
        alice.group.apply(again)


def test_prior_epochs_can_be_given_in_part(world, shelf):
    alice, bob = world.group(2)
    late = []
    for _ in range(4):
        late.append(bob.group.encrypt(b"epoch %d" % bob.group.epoch))
        world.spread(alice.commit(), alice, [alice, bob])
    alice.group.save()
    shelf.take(alice.client)
    shelf.epochs = {3: shelf.epochs[3]}
    group = shelf.load(alice.client)
    assert group.process(late[2]).plaintext == b"epoch 3"
    with pytest.raises(mls_rs.EpochTooOld):
        group.process(late[0])
    group.apply(group.commit(now=world.now))
    group.save()
    assert shelf.take(alice.client)[:2] == ["state", "tree"]
    assert sorted(shelf.epochs) == [3, 5]


def test_a_rollback_sends_with_a_used_generation_and_only_the_first_arrives(world, shelf):
    """Why a state must be stored before its message leaves."""
    alice, bob = world.group(2)
    alice.group.save()
    shelf.take(alice.client)
    one = alice.group.encrypt(b"one")
    two = shelf.load(alice.client).encrypt(b"two")
    assert bob.group.process(one).plaintext == b"one"
    with pytest.raises((mls_rs.KeyUnavailable, mls_rs.AuthenticationFailed)):
        bob.group.process(two)


def test_a_rollback_of_state_and_epochs_together_is_sound(world, shelf):
    alice, bob = world.group(2)
    alice.group.save()
    shelf.take(alice.client)
    copy = shelf.load(alice.client)
    copy.apply(copy.commit(now=world.now))
    copy.save()
    alice.client.take_log()  # lost: the transaction was rolled back
    group = shelf.load(alice.client)
    pending = bob.commit()
    bob.group.apply(pending)
    group.process(pending.message)
    group.save()
    assert shelf.take(alice.client) == ["state", "tree", "epoch-insert"]
    assert shelf.load(alice.client).epoch_authenticator == bob.group.epoch_authenticator


def test_two_incarnations_of_one_group_do_not_disturb_each_other(world):
    """Removed and added again: the old object's epochs stay out of the new one."""
    alice, bob = world.group(2)
    bob.group.save()
    old = bob.group
    pending = alice.commit(remove=[1])
    old.process(pending.message)
    alice.group.apply(pending)
    pending = alice.commit(add=[world.key_package(bob.client).message])
    alice.group.apply(pending)
    new = bob.client.join(pending.welcome)
    new.save()
    for _ in range(2):
        pending = alice.commit()
        alice.group.apply(pending)
        new.process(pending.message)
        new.save()
    assert new.epoch_authenticator == alice.group.epoch_authenticator
    assert not old.active


def every_blob(world):
    """(label, blob, how to open it) for each kind of blob."""
    client = world.client(b"owner")
    package = world.key_package(client)
    (inserted,) = client.take_log()
    group = client.create_group(b"group", world.suite)
    group.apply(group.commit(now=world.now))
    group.save()
    rows = {entry.kind: entry.data for entry in client.take_log()}
    pending = group.commit(now=world.now).seal()
    state, tree, epoch = rows["state"], rows["tree"], rows["epoch-insert"]

    def load(state=state, tree=tree, epoch=epoch, number=0, group_id=b"group", by=client):
        return by.load_group(group_id, state, tree, [(number, epoch)])

    return (
        client,
        {
            "state": (state, lambda blob: load(state=blob)),
            "tree": (tree, lambda blob: load(tree=blob)),
            "epoch": (epoch, lambda blob: load(epoch=blob)),
            "package": (
                inserted.data,
                lambda blob: client.restore_key_package(package.reference, blob),
            ),
            "pending": (pending, client.open_pending_commit),
        },
        load,
    )


def test_a_tampered_blob_is_an_error_and_never_more(world):
    _, blobs, _ = every_blob(world)
    for blob, opened in blobs.values():
        opened(blob)
        small = len(blob) <= 2_000  # every byte of it
        places = range(0, len(blob), 1 if small else len(blob) // 400)
        for i in [*places, len(blob) - 1]:
            for flip in (0x01, 0x80):
                with pytest.raises(mls_rs.BlobError):
                    opened(blob[:i] + bytes([blob[i] ^ flip]) + blob[i + 1 :])
        for bad in (b"", blob[:1], blob[:40], blob[:-1], blob + b"\0", bytes(len(blob))):
            with pytest.raises(mls_rs.BlobError) as refused:
                opened(bad)
            assert refused.value.code == "tampered"
        opened(blob)


def test_a_newer_version_is_told_apart(world):
    _, blobs, _ = every_blob(world)
    for blob, opened in blobs.values():
        with pytest.raises(mls_rs.BlobError) as refused:
            opened(bytes([blob[0] + 1]) + blob[1:])
        assert refused.value.code == "newer-version"


def test_blobs_of_version_1_are_still_read(world, shelf):
    """What the first release wrote: no account of skipped keys in the state, else the same."""
    alice, bob = world.group(2)
    late = bob.group.encrypt(b"late")
    world.spread(bob.commit(), bob, [alice, bob])
    alice.group.save()
    shelf.take(alice.client)

    def first_release(kind, id, blob):
        inside = blobs.unseal(kind, b"group", id, blob)
        if kind == blobs.STATE:
            flags, length = inside[0], int.from_bytes(inside[1:5], "big")
            inside = bytes([flags & 3]) + inside[5 + length :]
        return blobs.seal(kind, b"group", id, inside, version=1)

    shelf.state = first_release(blobs.STATE, b"", shelf.state)
    shelf.tree = first_release(blobs.TREE, b"", shelf.tree)
    for number, blob in shelf.epochs.items():
        shelf.epochs[number] = first_release(blobs.EPOCH, number.to_bytes(8, "big"), blob)
    again = shelf.load(alice.client)
    assert again.process(late).plaintext == b"late"
    bob.group.skip_to_generation(500)
    assert again.process(bob.group.encrypt(b"now")).plaintext == b"now"
    assert again.skipped_keys == 0, "what was skipped before the first message seen is unknown"
    bob.group.skip_to_generation(600)
    again.process(bob.group.encrypt(b"then"))
    assert again.skipped_keys == 99


def test_a_genuine_blob_of_another_layout_is_refused(classic, shelf):
    """Sealed under the right key, with a different inside: an error, never a crash."""
    (alice,) = classic.group(1)
    alice.group.save()
    shelf.take(alice.client)
    inside = blobs.unseal(blobs.STATE, b"group", b"", shelf.state)
    for bad in (b"", b"\x07", inside[:4], inside[:40], bytes([7]) + b"\xff" * 4 + inside[5:]):
        shelf.state = blobs.seal(blobs.STATE, b"group", b"", bad)
        with pytest.raises(mls_rs.BlobError) as refused:
            shelf.load(alice.client)
        assert refused.value.code == "layout"


def test_a_blob_opens_only_as_what_it_is(world):
    client, blobs, load = every_blob(world)
    for one, (_, opened) in blobs.items():
        for other, (blob, _) in blobs.items():
            if one != other:
                with pytest.raises(mls_rs.BlobError):
                    opened(blob)
    for wrong in ({"number": 1}, {"group_id": b"other"}):
        with pytest.raises(mls_rs.BlobError):
            load(**wrong)
    with pytest.raises(mls_rs.BlobError):
        client.restore_key_package(bytes(32), blobs["package"][0])


def test_a_blob_opens_only_under_its_key_and_for_its_owner(world):
    _, _, load = every_blob(world)
    with pytest.raises(mls_rs.BlobError) as refused:
        load(by=world.client(storage_key=b"\1" * 32))
    assert refused.value.code == "tampered"
    with pytest.raises(mls_rs.BlobError) as refused:
        load(by=world.client(b"owner"))
    assert refused.value.code == "other-client"


def test_rows_of_different_epochs_are_not_put_together(world):
    alice, _ = world.group(2)
    rows = []
    for _ in range(2):
        alice.group.save()
        rows.append({entry.kind: entry.data for entry in alice.client.take_log()})
        alice.group.apply(alice.commit())
    with pytest.raises(mls_rs.BlobError) as refused:
        alice.client.load_group(b"group", rows[1]["state"], rows[0]["tree"])
    assert refused.value.code == "other-tree"


def test_blobs_hide_the_seed_and_never_repeat(world):
    seed = os.urandom(32)
    client = world.client(seed=seed)
    world.key_package(client)
    group = client.create_group(b"group", world.suite)
    group.apply(group.commit(now=world.now))
    group.save()
    group.save(tree=True)
    pending = group.commit(now=world.now)
    blobs = [e.data for e in client.take_log()] + [pending.seal(), pending.seal()]
    assert all(seed not in blob and client.signature_key not in blob for blob in blobs)
    assert len(set(blobs)) == len(blobs)
