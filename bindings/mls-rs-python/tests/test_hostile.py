"""What others send, or fail to send: nothing of it may hurt the group."""

import asyncio
import contextlib
import itertools
import time

import mls_rs
import pytest

# The first to ask for an outlaw compiles its program: minutes, where nothing is compiled yet.
pytestmark = pytest.mark.timeout(900)


def flipped(data: bytes, places) -> list[bytes]:
    return [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in places]


def spread_over(data: bytes, count: int = 60) -> list[int]:
    return sorted({i * (len(data) - 1) // (count - 1) for i in range(count)})


def snapshot(group) -> tuple:
    return group.epoch, group.epoch_authenticator, group.active, group.ratchet_tree()


def test_a_flipped_byte_never_burns_a_message(world):
    alice, bob = world.group(2)
    message = alice.group.encrypt(b"precious")
    for bad in flipped(message, range(len(message))):
        with pytest.raises(mls_rs.MlsError):
            bob.group.process(bad)
    assert bob.group.process(message).plaintext == b"precious"


def test_a_flipped_byte_never_burns_a_late_message(world):
    alice, bob = world.group(2)
    message = alice.group.encrypt(b"precious")
    world.spread(bob.commit(), bob, [alice, bob])
    for bad in flipped(message, spread_over(message)):
        with pytest.raises(mls_rs.MlsError):
            bob.group.process(bad)
    assert bob.group.process(message).plaintext == b"precious"


def test_a_flipped_byte_in_a_commit_leaves_the_group_as_it_was(world):
    alice, bob, _ = world.group(3)
    pending = alice.commit(remove=[2])
    before = snapshot(bob.group)
    for bad in flipped(pending.message, spread_over(pending.message)):
        with pytest.raises(mls_rs.MlsError):
            bob.group.process(bad)
        assert snapshot(bob.group) == before
    assert bob.group.process(pending.message).epoch == 2


def test_a_flipped_byte_in_a_welcome_leaves_the_key_package_usable(world):
    alice, bob = world.alone(), world.client()
    pending = alice.commit(add=[world.key_package(bob).message])
    for bad in flipped(pending.welcome, spread_over(pending.welcome)):
        with pytest.raises(mls_rs.MlsError):
            bob.join(bad)
    assert bob.join(pending.welcome).epoch == 1


def test_a_flipped_byte_in_a_tree_beside_the_welcome_is_refused(world):
    alice, bob = world.alone(), world.client()
    pending = alice.commit(add=[world.key_package(bob).message], tree_in_welcome=False)
    for bad in flipped(pending.tree, spread_over(pending.tree, 120)):
        with pytest.raises(mls_rs.MlsError):
            bob.join(pending.welcome, tree=bad)
    assert bob.join(pending.welcome, tree=pending.tree).epoch == 1


def test_a_flipped_byte_in_a_key_package_is_refused(world):
    message = world.key_package(world.client()).message
    alice = world.alone()
    for bad in flipped(message, spread_over(message, 120)):
        with pytest.raises((mls_rs.AuthenticationFailed, mls_rs.DecodeError)):
            mls_rs.verify_key_package(bad)
        with pytest.raises(mls_rs.MlsError):
            alice.commit(add=[bad])


def test_trailing_bytes_and_noise_are_refused_everywhere(world):
    alice, bob = world.group(2)
    newcomer = world.client()
    package = world.key_package(newcomer).message
    pending = alice.commit(add=[package], tree_in_welcome=False)
    message = alice.group.encrypt(b"x")
    for noise in (message + b"\0", b"", b"\0", message[:-1], bytes(40), b"\xff" * 40):
        with pytest.raises(mls_rs.DecodeError):
            bob.group.process(noise)
        with pytest.raises(mls_rs.DecodeError):
            mls_rs.inspect(noise)
    for call in (
        lambda: mls_rs.inspect(package + b"\0"),
        lambda: mls_rs.verify_key_package(package + b"\0"),
        lambda: mls_rs.welcome_references(pending.welcome + b"\0"),
        lambda: newcomer.join(pending.welcome + b"\0", tree=pending.tree),
        lambda: newcomer.join(pending.welcome, tree=pending.tree + b"\0"),
        lambda: newcomer.join(message),
        lambda: mls_rs.welcome_references(message),
        lambda: mls_rs.verify_key_package(message),
        lambda: alice.commit(add=[package + b"\0"]),
        lambda: alice.commit(add=[message]),
        lambda: bob.group.process(package),
        lambda: bob.group.process(pending.welcome),
    ):
        with pytest.raises(mls_rs.DecodeError):
            call()


def test_messages_of_other_groups_and_epochs_are_told_apart(world):
    members = world.group(2)
    alice, bob = members
    other = world.alone()
    stranger = other.client.create_group(b"other", world.suite)
    with pytest.raises(mls_rs.WrongGroup) as refused:
        bob.group.process(stranger.encrypt(b"x"))
    assert refused.value.code == "wrong-group"
    old = alice.commit()
    ahead = alice.group.clone()
    ahead.apply(old)
    for future in (ahead.encrypt(b"x"), ahead.commit(now=world.now).message):
        with pytest.raises(mls_rs.EpochInFuture) as refused:
            bob.group.process(future)
        assert refused.value.code == "epoch-in-future"
    world.spread(alice.commit(), alice, members)
    with pytest.raises(mls_rs.EpochTooOld) as refused:
        bob.group.process(old.message)
    assert refused.value.code == "epoch-too-old"
    with pytest.raises(mls_rs.AuthenticationFailed):
        bob.group.process(ahead.encrypt(b"the same epoch number on another branch"))
    with pytest.raises(mls_rs.AuthenticationFailed):
        bob.group.process(ahead.commit(now=world.now).message)


def test_own_messages_are_recognised(world):
    alice, _ = world.group(2)
    for own in (alice.group.encrypt(b"x"), alice.commit().message):
        with pytest.raises(mls_rs.OwnMessage) as refused:
            alice.group.process(own)
        assert refused.value.code == "own-message"


def test_jumps_too_far_ahead_are_refused(classic):
    alice, bob = classic.group(2)
    messages = [alice.group.encrypt(b"%d" % i) for i in range(1_100)]
    with pytest.raises(mls_rs.KeyUnavailable) as refused:
        bob.group.process(messages[-1])
    assert refused.value.code == "generation-too-far"
    assert bob.group.process(messages[900]).plaintext == b"900"
    assert bob.group.process(messages[-1]).plaintext == b"1099"


def test_a_strangers_external_commit_is_refused(world, outlaws):
    alice, bob = world.group(2)
    before = snapshot(bob.group)
    message = outlaws().ask("external", alice.group.group_info())
    assert mls_rs.inspect(message).content == "commit"
    for member in (alice, bob):
        with pytest.raises(mls_rs.RefusedByRules) as refused:
            member.group.process(message)
        assert refused.value.code == "external-commit"
    assert snapshot(bob.group) == before
    # The attack is a real one: a member without rules lets the stranger in.
    (lawful, _), fooled = with_outlaw(world, outlaws)
    message = outlaws().ask("external", lawful.group.group_info())
    fooled.ask("process", message)
    with pytest.raises(mls_rs.RefusedByRules):
        lawful.group.process(message)
    assert len(lawful.group.roster()) == 3


def with_outlaw(world, outlaws):
    """Two lawful members and one who breaks the rules, at leaf 2."""
    members = world.group(2)
    outlaw = outlaws()
    package = outlaw.ask("key-package")
    pending = members[0].group.commit(add=[package], now=int(time.time()))
    world.spread(pending, members[0], members)
    outlaw.ask("join", pending.welcome)
    return members, outlaw


@pytest.mark.parametrize("proposal", [("propose-update",), ("propose-remove", 1)], ids=str)
def test_proposals_by_reference_are_refused_and_do_not_block_sending(world, outlaws, proposal):
    (alice, bob), outlaw = with_outlaw(world, outlaws)
    message = outlaw.ask(*proposal)
    assert mls_rs.inspect(message).content == "proposal"
    for member in (alice, bob):
        before = snapshot(member.group)
        with pytest.raises(mls_rs.RefusedByRules) as refused:
            member.group.process(message)
        assert refused.value.code == "by-reference-proposal"
        assert snapshot(member.group) == before
    assert bob.group.process(alice.group.encrypt(b"still talking")).plaintext == b"still talking"


def test_commits_of_proposals_by_reference_are_refused(world, outlaws):
    (alice, bob), outlaw = with_outlaw(world, outlaws)
    outlaw.ask("propose-remove", 1)
    with pytest.raises(mls_rs.RefusedByRules) as refused:
        alice.group.process(outlaw.ask("commit"))
    assert refused.value.code == "by-reference-proposal"
    assert alice.group.process(bob.group.encrypt(b"fine")).plaintext == b"fine"


def test_a_reinitialisation_is_refused(world, outlaws):
    (alice, bob), outlaw = with_outlaw(world, outlaws)
    with pytest.raises(mls_rs.RefusedByRules) as refused:
        alice.group.process(outlaw.ask("commit-reinit"))
    assert refused.value.code == "reinit"
    world.spread(alice.commit(), alice, [alice, bob])


def test_a_stale_commit_is_not_applied(world):
    members = world.group(2)
    alice, bob = members
    stale = alice.commit()
    world.spread(bob.commit(), bob, members)
    before = snapshot(alice.group)
    with pytest.raises(mls_rs.StaleCommit) as refused:
        alice.group.apply(stale)
    assert refused.value.code == "stale-commit"
    assert snapshot(alice.group) == before


def test_a_commit_of_the_same_epoch_on_another_branch_is_stale(world):
    members = world.group(2)
    alice, _ = members
    left, right = alice.group.clone(), alice.group.clone()
    left.apply(left.commit(now=world.now))
    right.apply(right.commit(now=world.now))
    assert left.epoch == right.epoch
    with pytest.raises(mls_rs.StaleCommit):
        left.apply(right.commit(now=world.now))


def test_somebody_elses_pending_commit_is_stale(world):
    alice, bob = world.group(2)
    with pytest.raises(mls_rs.StaleCommit):
        bob.group.apply(alice.commit())


def test_lifetimes_count_when_adding_and_not_when_receiving(world):
    alice, bob = world.group(2)
    package = world.key_package(world.client(), lifetime_s=10).message
    for now in (world.now - 3601, world.now + 11, 0):
        with pytest.raises(mls_rs.InvalidCommit) as refused:
            alice.group.commit(add=[package], now=now)
        assert refused.value.code == "key-package-lifetime"
    # The machine's clock is years away from this lifetime; bob does not look at it.
    pending = alice.group.commit(add=[package], now=world.now + 10)
    assert len(bob.group.process(pending.message).added) == 1


def test_impossible_additions_and_removals(world):
    alice, _ = world.group(2)
    other_suite = ({mls_rs.CLASSIC, mls_rs.HYBRID} - {world.suite}).pop()
    foreign = world.client().key_package(other_suite, now=world.now, lifetime_s=10)
    package = world.key_package(world.client()).message
    for code, arguments in {
        "wrong-suite": {"add": [foreign.message]},
        "duplicate-leaf": {"add": [package, package]},
        "committer-self-removal": {"remove": [0]},
    }.items():
        with pytest.raises(mls_rs.InvalidCommit) as refused:
            alice.commit(**arguments)
        assert refused.value.code == code
    with pytest.raises(mls_rs.InvalidCommit):
        alice.commit(remove=[1, 1])
    for index in (2, 7, 2**31, 2**32 - 1):
        with pytest.raises(mls_rs.NoSuchMember) as absent:
            alice.commit(remove=[index])
        assert absent.value.code == "no-such-member"
    assert alice.group.epoch == 1
    alice.group.apply(alice.commit(add=[package]))


def test_two_devices_may_share_a_credential(world):
    alice = world.alone(b"anna")
    phone = world.client(b"anna")
    alice.group.apply(alice.commit(add=[world.key_package(phone).message]))
    assert [m.credential for m in alice.group.roster()] == [b"anna", b"anna"]


def test_a_welcome_for_somebody_else(world):
    alice = world.alone()
    pending = alice.commit(add=[world.key_package(world.client()).message])
    with pytest.raises(mls_rs.UnknownKeyPackage) as refused:
        world.client().join(pending.welcome)
    assert refused.value.code == "unknown-key-package"


class Unwanted(Exception):
    pass


def test_a_refused_credential_has_the_validators_exception_as_its_cause(world):
    asked = []

    def validate(signature_key, credential):
        asked.append((signature_key, credential))
        if credential == b"mallory":
            raise Unwanted(credential)

    alice = world.alone(b"alice", validate=validate)
    mallory = world.client(b"mallory")
    package = world.key_package(mallory).message
    with pytest.raises(mls_rs.CredentialRefused) as refused:
        alice.commit(add=[package])
    assert refused.value.code == "credential-refused"
    assert isinstance(refused.value.__cause__, Unwanted)
    assert asked[-1] == (mallory.signature_key, b"mallory")
    # Joining a group that mallory is in, and processing the commit that adds her.
    bob, host = world.client(b"bob", validate=validate), world.alone(b"host")
    pending = host.commit(add=[package, world.key_package(bob).message])
    with pytest.raises(mls_rs.CredentialRefused):
        bob.join(pending.welcome)
    pending = host.commit(add=[world.key_package(bob).message])
    host.group.apply(pending)
    joined = bob.join(pending.welcome)
    with pytest.raises(mls_rs.CredentialRefused) as refused:
        joined.process(host.commit(add=[package]).message)
    assert isinstance(refused.value.__cause__, Unwanted)
    assert joined.epoch == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_interrupts_pass_through_the_validator(classic, kind):
    def validate(signature_key, credential):
        if credential == b"bob":
            raise kind

    alice = classic.alone(b"alice", validate=validate)
    package = classic.key_package(classic.client(b"bob")).message
    with pytest.raises(kind):
        alice.commit(add=[package])
    assert alice.group.epoch == 0


def test_a_validator_that_comes_back_is_refused_instead_of_hanging(classic):
    holder = []

    def validate(signature_key, credential):
        if holder:
            holder[0].group.encrypt(b"x")

    alice = classic.alone(validate=validate)
    holder.append(alice)
    with pytest.raises(mls_rs.CredentialRefused) as refused:
        alice.commit(add=[classic.key_package(classic.client()).message])
    assert isinstance(refused.value.__cause__, RuntimeError)
    assert alice.group.encrypt(b"and afterwards all is well")


def test_every_error_has_a_code():
    for name, value in vars(mls_rs).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, mls_rs.MlsError), name
            assert value("text").code


def test_mutations_raise_one_type(classic):
    """A coarse fuzz of everything that takes a peer's bytes."""
    members = classic.group(2)
    alice, bob = members
    newcomer = classic.client()
    package = classic.key_package(newcomer).message
    pending = alice.commit(add=[package], tree_in_welcome=False)
    doors = [
        (package, mls_rs.verify_key_package),
        (pending.message, bob.group.clone().process),
        (alice.group.encrypt(b"x"), bob.group.clone().process),
        (pending.welcome, lambda data: newcomer.join(data, tree=pending.tree)),
        (pending.tree, lambda data: newcomer.join(pending.welcome, tree=data)),
    ]
    for (data, door), value in itertools.product(doors, (0x00, 0x3F, 0x7F, 0x80, 0xBF, 0xFF)):
        for i in range(0, len(data), 3):
            if data[i] == value:
                continue
            with contextlib.suppress(mls_rs.DecodeError):
                mls_rs.inspect(data[:i] + bytes([value]) + data[i + 1 :])
            with pytest.raises(mls_rs.MlsError) as refused:
                door(data[:i] + bytes([value]) + data[i + 1 :])
            assert refused.value.code != "internal-panic"
