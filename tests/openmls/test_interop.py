"""Groups shared with members on OpenMLS, the other implementation of RFC 9420.

Ours are made as the node makes them: device credentials and their validator, key package
lifetimes, the group-info extension, cipher suite 1. The other side is `peer/`, a program on the
openmls crate that is built for these tests alone, in about a minute the first time. It needs Rust
1.87, what OpenMLS compiles with; an older one skips these tests. After each commit all members are
compared: epoch authenticator, an exported secret, roster. OpenMLS is set to refuse handshake
messages that are not PublicMessages.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import mls_rs
import pytest

from schemas.messages import GROUP_INFO_EXTENSION
from tests.openmls.members import Received
from tests.openmls.program import Refused
from tests.openmls.table import EXTENSIONS, GROUP_INFO, REQUIRED_CAPABILITIES, Side, Table

# The build of the session fixture has its own deadline.
pytestmark = pytest.mark.timeout(120, func_only=True)

REFUSALS = (mls_rs.MlsError, Refused)
LAST_RESORT = 10

both_ways = pytest.mark.parametrize(
    ("first", "second"), [("ours", "openmls"), ("openmls", "ours")], ids=["ours", "openmls"]
)
"""`first` is the side that acts; the test bears its name."""


@both_ways
def test_one_creates_a_group_and_adds_the_other(table: Table, first: Side, second: Side) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    table.talk()
    assert bert.view().epoch == 1
    assert bert.view().group_info == GROUP_INFO


@both_ways
def test_messages_of_any_size(table: Table, first: Side, second: Side) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    for size in (0, 1, 63, 64, 255, 256, 16_384, 65_536):
        table.talk(random.randbytes(size))


@both_ways
def test_the_ratchet_tree_travels_beside_the_welcome(
    table: Table, first: Side, second: Side
) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert], tree_in_welcome=False)
    table.talk()


def test_ours_adds_openmls_by_a_last_resort_key_package(table: Table) -> None:
    anna, bert = table.ours("anna"), table.openmls("bert")
    table.found(anna)
    table.commit(anna, add=[bert], last_resort=True)
    table.talk()


def test_openmls_adds_ours_by_a_last_resort_key_package(table: Table) -> None:
    """RFC 9420 section 10: what is in `extensions` must be in `leaf_node.capabilities`."""
    anna, bert = table.openmls("anna"), table.ours("bert")
    table.found(anna)
    table.commit(anna, add=[bert], last_resort=True)
    table.talk()


@both_ways
def test_path_updates_by_each(table: Table, first: Side, second: Side) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    for author in (anna, bert, bert, anna, bert, anna):
        table.commit(author)
        table.talk()
    assert anna.view().epoch == 7


def test_openmls_adds_without_an_update_path(table: Table) -> None:
    """RFC 9420 section 12.4 allows it; ours always sends a path."""
    anna, bert, carl = table.openmls("anna"), table.ours("bert"), table.ours("carl")
    table.found(anna)
    table.commit(anna, add=[bert])
    offer = anna.commit(add=[carl.key_package()], path=False)
    table.settle(anna, offer, add=[carl])
    table.talk()
    for author in (bert, carl, anna):
        table.commit(author)


@pytest.mark.parametrize(
    "sides",
    [
        ("ours", "openmls", "ours"),
        ("ours", "openmls", "openmls"),
        ("ours", "ours", "openmls"),
        ("openmls", "ours", "openmls"),
        ("openmls", "ours", "ours"),
        ("openmls", "openmls", "ours"),
    ],
    ids="-".join,
)
def test_each_adds_the_next_of_three(table: Table, sides: tuple[Side, Side, Side]) -> None:
    anna, bert, carl = (
        table.member(side, name) for side, name in zip(sides, ("anna", "bert", "carl"), strict=True)
    )
    table.found(anna)
    table.commit(anna, add=[bert])
    table.commit(bert, add=[carl])
    table.talk()
    for author in (carl, anna, bert):
        table.commit(author)
        table.talk()


@both_ways
def test_one_removes_the_other(table: Table, first: Side, second: Side) -> None:
    """The one removed sees it and reads nothing more; those who remain go on; it may come back."""
    anna, bert, carl = (
        table.member(first, "anna"),
        table.member(second, "bert"),
        table.member(second, "carl"),
    )
    table.found(anna)
    table.commit(anna, add=[bert, carl])
    table.commit(anna, remove=[bert])
    table.talk()
    with pytest.raises(REFUSALS):
        bert.process(anna.encrypt(b"not for bert"))
    with pytest.raises(REFUSALS):
        bert.commit()
    table.commit(carl)
    table.commit(carl, add=[bert])
    table.talk()
    table.commit(bert)
    table.talk()


@both_ways
def test_the_newcomer_removes_the_founder(table: Table, first: Side, second: Side) -> None:
    anna, bert, carl = (
        table.member(second, "anna"),
        table.member(first, "bert"),
        table.member(second, "carl"),
    )
    table.found(anna)
    table.commit(anna, add=[bert])
    table.commit(bert, add=[carl])
    table.commit(bert, remove=[anna])
    table.commit(carl)
    table.talk()


def test_a_large_mixed_group_with_blank_leaves(table: Table) -> None:
    """Trees with unmerged leaves and blanks; adds and removals in one commit; leaves used again."""
    crowd = [table.member("ours" if i % 2 else "openmls", f"member {i}") for i in range(12)]
    table.found(crowd[0])
    table.commit(crowd[0], add=crowd[1:4])
    table.commit(crowd[3], add=crowd[4:9])
    for author in (crowd[8], crowd[1], crowd[4], crowd[5]):
        table.commit(author)
    table.commit(crowd[5], remove=[crowd[2], crowd[3], crowd[7]])
    table.commit(crowd[4], remove=[crowd[8]], add=[crowd[9]])
    table.commit(crowd[1], remove=[crowd[0]], add=[crowd[10], crowd[11]])
    table.talk()
    for author in list(table.seated):
        table.commit(author)
    table.talk()


@pytest.mark.parametrize("seed", range(6))
def test_a_random_history(table: Table, seed: int) -> None:
    """Whatever the order of adds, updates and removals, all members agree after each."""
    draw = random.Random(seed)
    sides: tuple[Side, Side] = ("ours", "openmls")
    table.found(table.member(sides[seed % 2], "founder"))
    for step in range(30):
        author = draw.choice(table.seated)
        others = [member for member in table.seated if member is not author]
        joining = draw.choice((0, 0, 1, 2)) if len(table.seated) < 10 else 0
        leaving = min(draw.choice((0, 0, 1)), len(others))
        table.commit(
            author,
            add=[table.member(draw.choice(sides), f"{step}.{i}") for i in range(joining)],
            remove=draw.sample(others, leaving),
        )
    table.talk()


@both_ways
def test_messages_that_come_late(table: Table, first: Side, second: Side) -> None:
    """Sent in an epoch that the reader has left behind, some before and some after its end."""
    anna, bert, carl = (
        table.member(first, "anna"),
        table.member(second, "bert"),
        table.member(first, "carl"),
    )
    table.found(anna)
    table.commit(anna, add=[bert])
    late = []
    for author, add, remove in ((bert, [carl], []), (anna, [], []), (bert, [], [carl])):
        late.append((anna.view().epoch, [anna.encrypt(b"late %d" % i) for i in range(3)]))
        table.commit(author, add=add, remove=remove)
    for epoch, messages in reversed(late):
        for i, message in enumerate(messages):
            assert bert.process(message) == Received(0, epoch, b"late %d" % i, b"")
            with pytest.raises(REFUSALS):
                bert.process(message)
    table.talk()


@both_ways
def test_messages_out_of_order(table: Table, first: Side, second: Side) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    sent = [(b"message %d" % i, anna.encrypt(b"message %d" % i)) for i in range(40)]
    shuffled = random.Random(7).sample(sent, len(sent))
    for plaintext, message in [sent[-1], *(pair for pair in shuffled if pair != sent[-1])]:
        assert bert.process(message) == Received(0, 1, plaintext, b"")
    for _, message in sent:
        with pytest.raises(REFUSALS):
            bert.process(message)
    table.talk()


@both_ways
def test_a_tampered_message_is_refused_and_the_good_one_works(
    table: Table, first: Side, second: Side
) -> None:
    """Every bit in turn. A relay that flips one must not be able to destroy the message."""
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    message = anna.encrypt(b"genuine", b"beside")
    for tampered in flipped(message, range(8)):
        with pytest.raises(REFUSALS):
            bert.process(tampered)
    assert bert.process(message) == Received(0, 1, b"genuine", b"beside")


@both_ways
def test_a_tampered_commit_is_refused_and_the_good_one_works(
    table: Table, first: Side, second: Side
) -> None:
    """Every bit in turn for ours; one of each byte for OpenMLS.

    OpenMLS accepts the length of a list of structs (proposals, path nodes) that is too small, as
    if it were right. Its highest bit only ever makes it larger.
    """
    anna, bert, carl = (
        table.member(first, "anna"),
        table.member(second, "bert"),
        table.member(first, "carl"),
    )
    table.found(anna)
    table.commit(anna, add=[bert])
    offer = anna.commit(add=[carl.key_package()])
    for tampered in flipped(offer.commit, [7] if second == "openmls" else range(8)):
        with pytest.raises(REFUSALS):
            bert.process(tampered)
    table.settle(anna, offer, add=[carl])
    table.talk()


def test_a_tampered_welcome_is_refused_and_the_good_one_works(table: Table) -> None:
    """Ours only: OpenMLS 0.8 deletes the KeyPackage at the first attempt."""
    anna, bert = table.openmls("anna"), table.ours("bert")
    table.found(anna)
    offer = anna.commit(add=[bert.key_package()])
    assert offer.welcome is not None
    for tampered in flipped(offer.welcome, range(8)):
        with pytest.raises(mls_rs.MlsError):
            bert.join(tampered)
    table.settle(anna, offer, add=[bert])
    table.talk()


@both_ways
def test_of_two_commits_for_one_epoch_the_first_wins(
    table: Table, first: Side, second: Side
) -> None:
    """The loser has a pending commit when the winner's arrives, and drops its own."""
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    winner, loser = anna.commit(), bert.commit()
    table.settle(anna, winner)
    with pytest.raises(REFUSALS):
        anna.process(loser.commit)
    table.talk()
    table.commit(bert)


@both_ways
def test_the_group_info_is_replaced(table: Table, first: Side, second: Side) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna, [REQUIRED_CAPABILITIES, *EXTENSIONS])
    table.commit(anna, add=[bert])
    for author, data in ((anna, b"one"), (bert, b"two"), (anna, bytes(1_000))):
        table.commit(author, extensions=[REQUIRED_CAPABILITIES, (GROUP_INFO_EXTENSION, data)])
        assert bert.view().group_info == data
        table.talk()


def test_openmls_wants_a_replaced_group_info_among_the_required_capabilities(table: Table) -> None:
    """Stricter than RFC 9420 section 12.1.7: a member on OpenMLS stays behind at such a commit."""
    anna, bert = table.ours("anna"), table.openmls("bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    with pytest.raises(Refused, match="ExtensionNotInRequiredCapabilities"):
        bert.process(anna.commit(extensions=[(GROUP_INFO_EXTENSION, b"new")]).commit)
    table.commit(bert)


@both_ways
def test_a_group_without_extension(table: Table, first: Side, second: Side) -> None:
    anna, bert = table.member(first, "anna"), table.member(second, "bert")
    table.found(anna, extensions=[])
    table.commit(anna, add=[bert])
    table.talk()
    assert bert.view().group_info is None


def test_who_does_not_know_the_group_info_is_not_added(table: Table) -> None:
    """A leaf must list the types of all group-context extensions (RFC 9420 section 12.1.7)."""
    anna, bert = table.ours("anna"), table.openmls("bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    with pytest.raises(mls_rs.InvalidCommit) as ours:
        anna.commit(add=[table.openmls("plain", extension_types=[]).key_package()])
    assert ours.value.code == "unsupported-group-extension"
    with pytest.raises(Refused, match="InsufficientCapabilities"):
        bert.commit(add=[table.ours("plain", extension_types=[]).key_package()])
    table.commit(anna)


def test_a_proposal_by_reference_is_refused_and_harms_nobody(table: Table) -> None:
    """OpenMLS leaves by proposing to be removed. Ours accept no such proposal, and go on."""
    anna, bert, carl = table.ours("anna"), table.openmls("bert"), table.ours("carl")
    table.found(anna)
    table.commit(anna, add=[bert, carl])
    proposal = bert.propose_to_leave()
    for member in (anna, carl):
        with pytest.raises(mls_rs.RefusedByRules) as refusal:
            member.process(proposal)
        assert refusal.value.code == "by-reference-proposal"
    table.commit(anna, remove=[bert])
    table.talk()


def test_ours_goes_on_after_a_restart(table: Table) -> None:
    anna, bert = table.ours("anna"), table.openmls("bert")
    table.found(anna)
    table.commit(anna, add=[bert])
    late = bert.encrypt(b"late")
    table.commit(bert)
    anna.restart()
    assert anna.process(late) == Received(1, 1, b"late", b"")
    table.talk()
    table.commit(anna)
    table.commit(bert)


def flipped(message: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """Copies with one bit turned over: each of `bits` of each byte."""
    for bit in bits:
        for at in range(len(message)):
            yield message[:at] + bytes([message[at] ^ 1 << bit]) + message[at + 1 :]
