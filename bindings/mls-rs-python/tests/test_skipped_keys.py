"""A member who floods future generations does not grow anybody's state without bound."""

import mls_rs
import pytest

JUMP = 1024
PER_SENDER = 1024
PER_GROUP = 4096


def state_size(member) -> int:
    member.group.save()
    return next(len(e.data) for e in member.client.take_log() if e.kind == "state")


def jump(attacker, victim, generations=JUMP):
    """One message that lies as far ahead as mls-rs lets it."""
    attacker.group.skip_to_generation(attacker.group.next_generation + generations)
    return victim.group.process(attacker.group.encrypt(b"x"))


def test_a_jump_of_1024_passes_and_one_more_does_not(world):
    attacker, victim = world.group(2)
    jump(attacker, victim, JUMP)
    with pytest.raises(mls_rs.KeyUnavailable) as refused:
        jump(attacker, victim, JUMP + 1)
    assert refused.value.code == "generation-too-far"


def test_a_flood_of_jumps_does_not_grow_the_state(world):
    """Without the cap the second measurement is eleven times the first: 384 KB (hazards)."""
    attacker, victim = world.group(2)
    jump(attacker, victim)
    one = state_size(victim)
    assert victim.group.skipped_keys == PER_SENDER
    assert victim.group.dropped_keys == 0
    for _ in range(10):
        jump(attacker, victim)
    assert victim.group.skipped_keys == PER_SENDER
    assert victim.group.dropped_keys == 10 * JUMP
    assert state_size(victim) < one * 1.2


def test_the_oldest_keys_go_and_the_newest_stay(classic):
    attacker, victim = classic.group(2)
    old = attacker.group.encrypt(b"old")
    jump(attacker, victim, JUMP - 1)
    young = attacker.group.encrypt(b"young")
    jump(attacker, victim, 10)
    with pytest.raises(mls_rs.KeyUnavailable) as refused:
        victim.group.process(old)
    assert refused.value.code == "key-used"
    assert victim.group.process(young).plaintext == b"young"


def test_a_flood_costs_its_sender_and_not_the_others(classic):
    members = classic.group(8)
    victim, honest = members[0], members[1]
    waiting = [honest.group.encrypt(b"%d" % i) for i in range(100)]
    victim.group.process(waiting.pop())
    for attacker in members[2:]:
        for _ in range(3):
            jump(attacker, victim)
    assert victim.group.skipped_keys == PER_GROUP
    assert [victim.group.process(m).plaintext for m in waiting] == [b"%d" % i for i in range(99)]
    assert victim.group.skipped_keys == PER_GROUP - 99


def test_a_flood_in_a_prior_epoch_is_refused(classic, shelf):
    """mls-rs gives no handle on prior epochs' keys: beyond the cap the message is refused."""
    members = classic.group(2)
    attacker, victim = members
    late = attacker.group.clone()
    first = attacker.group.encrypt(b"first")
    classic.spread(victim.commit(), victim, members)

    def late_jump():
        late.skip_to_generation(late.next_generation + JUMP)
        return victim.group.process(late.encrypt(b"x"))

    late_jump()
    for _ in range(3):
        with pytest.raises(mls_rs.KeyUnavailable) as refused:
            late_jump()
        assert refused.value.code in ("too-many-skipped", "generation-too-far")
    assert victim.group.process(first).plaintext == b"first", "what is within the cap still opens"
    assert victim.group.skipped_keys == JUMP - 1


def test_the_account_survives_the_store(classic, shelf):
    attacker, victim = classic.group(2)
    for _ in range(2):
        jump(attacker, victim)
    victim.group.save()
    shelf.take(victim.client)
    again = shelf.load(victim.client)
    assert (again.skipped_keys, again.dropped_keys) == (PER_SENDER, JUMP)
    attacker.group.skip_to_generation(attacker.group.next_generation + JUMP)
    again.process(attacker.group.encrypt(b"x"))
    assert (again.skipped_keys, again.dropped_keys) == (PER_SENDER, 2 * JUMP)


def test_messages_in_order_keep_no_keys(world):
    alice, bob = world.group(2)
    for _ in range(5):
        bob.group.process(alice.group.encrypt(b"x"))
    assert (bob.group.skipped_keys, bob.group.dropped_keys) == (0, 0)
