"""The model of MLS does what mls-rs does: the binding's own tests on the model, and more on both.

What the model leaves out is listed here by test, with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import mls_rs
import pytest

from simulation.model_mls import values, wire
from simulation.model_mls.client import Client
from tests.simulation.borrowed import borrowed

TESTS: Final = Path(__file__).parents[2] / "bindings" / "mls-rs-python" / "tests"
NOW: Final = 1_790_000_000

LEFT_OUT: Final = {
    "test_lifecycle": {
        "test_wrong_arguments_are_value_errors": "lengths of keys and seeds are not checked",
    },
    "test_generations": {},
    "test_skipped_keys": {},
    "test_storage": {
        "test_blobs_of_version_1_are_still_read": "blobs of its own",
        "test_a_genuine_blob_of_another_layout_is_refused": "blobs of its own",
        "test_blobs_hide_the_seed_and_never_repeat": "blobs hide nothing",
    },
    "test_members_and_psks": {
        "test_a_commit_with_a_pre_shared_key_needs_it_at_every_member": "no pre-shared keys",
        "test_a_welcome_with_a_pre_shared_key": "no pre-shared keys",
        "test_an_unknown_pre_shared_key_is_a_mistake_of_the_caller": "no pre-shared keys",
    },
    "test_hostile": {
        "test_a_strangers_external_commit_is_refused": "no external commits",
        "test_proposals_by_reference_are_refused_and_do_not_block_sending": "none can be made",
        "test_commits_of_proposals_by_reference_are_refused": "none can be made",
        "test_a_reinitialisation_is_refused": "none can be made",
        "test_a_validator_that_comes_back_is_refused_instead_of_hanging": "no locks",
    },
    "test_batches": {},
    "test_authorize": {
        "test_coming_back_is_judged_by_all": "no external commits",
        "test_a_member_without_rules_is_judged_by_the_others": "mls-rs's bytes",
        "test_a_judge_that_comes_back_is_refused_instead_of_hanging": "no locks",
        "test_only_a_callable_judges": "not checked",
        "test_judges_and_waiting_threads_do_not_deadlock": "no locks",
    },
    "test_properties": {"test_random_histories": "without external commits below"},
}
PARAMETERS_LEFT_OUT: Final = {"rejoin", "rejoined"}  # no external commits


class ModelClient(Client):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(os.urandom, **arguments)


def model_as_mls_rs() -> ModuleType:
    """The model under `mls_rs`'s names; what it has no version of is the original."""
    module = ModuleType("mls_rs")
    vars(module).update({name: getattr(mls_rs, name) for name in mls_rs.__all__})
    vars(module)["Client"] = ModelClient
    for plain in ("Change", "Commit", "Header", "KeyPackage", "LogEntry", "Member", "Message"):
        vars(module)[plain] = getattr(values, plain)
    for function in ("inspect", "welcome_references", "verify_key_package"):
        vars(module)[function] = getattr(wire, function)
    return module


def on_the_model(name: str) -> dict[str, Any]:
    """One of the binding's files, with the model in place of `mls_rs`."""
    spec = importlib.util.spec_from_file_location(f"{name}_on_the_model", TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for test in vars(module).values():
        for mark in getattr(test, "pytestmark", ()):
            if mark.name == "parametrize":
                values = mark.args[1]
                values[:] = [value for value in values if value not in PARAMETERS_LEFT_OUT]
    return vars(module)


def borrow_all() -> Any:
    """The fixtures come first; answers the random histories of `test_properties`."""
    path = list(sys.path)
    sys.modules["mls_rs"] = model_as_mls_rs()
    try:
        globals().update(borrowed(on_the_model("conftest")))
        for name, without in LEFT_OUT.items():
            found = on_the_model(name)
            globals().update(borrowed(found, without))
        return found
    finally:
        sys.modules["mls_rs"] = mls_rs
        sys.path[:] = path


HISTORIES: Final = borrow_all()


def test_random_histories_without_external_commits() -> None:
    """Add, remove, update, send, late, duplicate, reordered, tampered, stored: all agree."""
    history = type("History", (HISTORIES["History"],), {"come_back": None})
    HISTORIES["run_state_machine_as_test"](
        history,
        settings=HISTORIES["settings"](
            max_examples=40, stateful_step_count=40, deadline=None, derandomize=True
        ),
    )


# --- on both


@pytest.fixture(params=["real", "model"])
def client(request: pytest.FixtureRequest) -> Callable[[int], Any]:
    made = {"real": mls_rs.Client, "model": ModelClient}[request.param]

    def make(number: int) -> Any:
        return made(
            signing_seed=number.to_bytes(32, "big"),
            credential=b"%d" % number,
            storage_key=bytes(32),
            validate_credential=lambda key, credential: None,
            extension_types=[0xF001],
        )

    return make


def a_group(clients: list[Any]) -> list[Any]:
    first = clients[0].create_group(b"group", mls_rs.CLASSIC)
    packages = [package_of(client) for client in clients[1:]]
    pending = first.commit(add=packages, now=NOW)
    first.apply(pending)
    return [first, *(client.join(pending.welcome) for client in clients[1:])]


def package_of(client: Any, **arguments: Any) -> Any:
    made = client.key_package(mls_rs.CLASSIC, now=NOW, lifetime_s=1000, **arguments)
    return made.message


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(mls_rs.MlsError) as caught:
        call()
    return type(caught.value).__name__, caught.value.code


def test_siblings_part_and_a_snapshot_leads_back(client: Callable[[int], Any]) -> None:
    """Two commits on one epoch: each branch reads its own; who goes back may choose the other."""
    clients = [client(number) for number in range(1, 4)]
    ada, bob, cy = a_group(clients)
    before = {group: (group.clone(), group.epoch_authenticator) for group in (ada, bob, cy)}
    left, right = ada.commit(now=NOW), bob.commit(now=NOW)
    ada.apply(left)
    bob.apply(right)
    cy.process(left.message)
    assert ada.epoch_authenticator == cy.epoch_authenticator != bob.epoch_authenticator
    assert ada.export_secret(b"id", b"", 32) != bob.export_secret(b"id", b"", 32)
    assert refused(lambda: cy.process(right.message)) == ("EpochTooOld", "epoch-too-old")
    foreign = bob.encrypt(b"of the other branch")
    assert refused(lambda: cy.process(foreign)) == ("AuthenticationFailed", "decryption-failed")
    child = bob.commit(now=NOW).message
    assert refused(lambda: cy.process(child))[0] == "AuthenticationFailed"
    assert refused(lambda: ada.apply(left)) == ("StaleCommit", "stale-commit")
    for group in (ada, cy):
        back, authenticator = before[group]
        assert back.epoch_authenticator == authenticator
        assert back.process(right.message).committer.index == bob.own_index
        assert back.epoch_authenticator == bob.epoch_authenticator
        assert back.process(foreign).plaintext == b"of the other branch"
    assert refused(lambda: before[bob][0].process(right.message)) == ("OwnMessage", "own-message")


def test_a_leaf_that_was_taken_over_does_not_read_as_its_former_owner(
    client: Callable[[int], Any],
) -> None:
    ada, bob, cy = a_group([client(number) for number in range(1, 4)])
    late = cy.encrypt(b"mine")
    snapshot = bob.clone()
    newcomer = client(9)
    pending = ada.commit(remove=[cy.own_index], add=[package_of(newcomer)], now=NOW)
    assert bob.process(pending.message).added[0].index == cy.own_index
    assert refused(lambda: bob.process(late)) == ("NoSuchMember", "sender-left")
    assert snapshot.process(late).plaintext == b"mine"
    assert newcomer.join(pending.welcome).own_index == cy.own_index
    assert refused(lambda: newcomer.join(pending.welcome).process(late))[0] == "EpochTooOld"


def test_a_removed_member_cannot_follow_from_an_old_state(client: Callable[[int], Any]) -> None:
    clients = [client(number) for number in range(1, 4)]
    ada, bob, _ = a_group(clients)
    bob.save()
    rows = {entry.kind: entry.data for entry in clients[1].take_log()}
    pending = ada.commit(remove=[bob.own_index], now=NOW)
    ada.apply(pending)
    secret = ada.encrypt(b"without bob")
    again = clients[1].load_group(b"group", rows["state"], rows["tree"])
    assert refused(lambda: again.process(secret)) == ("EpochInFuture", "epoch-in-future")
    assert again.process(pending.message).removes_me
    assert refused(lambda: again.process(secret)) == ("NotActive", "not-active")


def test_a_member_who_lost_its_state_comes_back_to_another_leaf_or_its_own(
    client: Callable[[int], Any],
) -> None:
    """One commit removes the old leaf and adds the same device: the way of `invite --again`."""
    clients = [client(number) for number in range(1, 4)]
    ada, bob, cy = a_group(clients)
    package = package_of(clients[1])
    assert refused(lambda: ada.commit(add=[package], now=NOW)) == (
        "InvalidCommit",
        "duplicate-leaf",
    )
    pending = ada.commit(remove=[bob.own_index], add=[package], now=NOW)
    effect = cy.process(pending.message)
    assert [member.index for member in (*effect.removed, *effect.added)] == [1, 1]
    assert bob.process(pending.message).removes_me
    ada.apply(pending)
    back = clients[1].join(pending.welcome)
    assert back.process(ada.encrypt(b"again")).plaintext == b"again"
    assert back.epoch_authenticator == cy.epoch_authenticator


def test_a_flood_costs_who_sent_it_wherever_they_sit(client: Callable[[int], Any]) -> None:
    """The honest one has the last leaf: what is dropped is not found by its place."""
    victim, *attackers, honest = a_group([client(number) for number in range(1, 8)])
    waiting = [honest.encrypt(b"%d" % number) for number in range(100)]
    victim.process(waiting.pop())
    for attacker in attackers:
        attacker.skip_to_generation(1024)
        victim.process(attacker.encrypt(b"far ahead"))
    assert (victim.skipped_keys, victim.dropped_keys) == (4096, 5 * 1024 + 99 - 4096)
    assert [victim.process(message).plaintext for message in waiting] == [
        b"%d" % number for number in range(99)
    ]


@pytest.mark.parametrize("suite", [mls_rs.CLASSIC, mls_rs.HYBRID], ids=["classic", "hybrid"])
@pytest.mark.parametrize("size", [5, 20])
def test_sizes_are_those_of_mls_rs(suite: int, size: int) -> None:
    """What a run sends can be counted: within a fifth, once everybody has committed."""
    real, model = (_sizes(made, suite, size) for made in (mls_rs.Client, ModelClient))
    for what, expected in real.items():
        assert model[what] == pytest.approx(expected, rel=0.2), what


def _sizes(made: Any, suite: int, size: int) -> dict[str, int]:
    clients = [
        made(
            signing_seed=os.urandom(32),
            credential=os.urandom(96),
            storage_key=bytes(32),
            validate_credential=lambda key, credential: None,
            extension_types=[0xF001],
        )
        for _ in range(size + 1)
    ]
    packages = [client.key_package(suite, now=NOW, lifetime_s=1000).message for client in clients]
    first = clients[0].create_group(bytes(32), suite, [(0xF001, bytes(60))])
    pending = first.commit(add=packages[1:-1], now=NOW)
    first.apply(pending)
    groups = [first, *(client.join(pending.welcome) for client in clients[1:-1])]
    for author in groups:
        commit = author.commit(now=NOW)
        for group in groups:
            if group is not author:
                group.process(commit.message)
        author.apply(commit)
    inside = first.commit(add=packages[-1:], now=NOW)
    beside = first.commit(add=packages[-1:], tree_in_welcome=False, now=NOW)
    return {
        "key package": len(packages[0]),
        "update": len(first.commit(now=NOW).message),
        "add": len(inside.message),
        "welcome": len(inside.welcome),
        "welcome without tree": len(beside.welcome),
        "tree": len(beside.tree),
        "empty message": len(first.encrypt(b"")),
        "message": len(first.encrypt(bytes(300))),
        "long message": len(first.encrypt(bytes(5000))),
    }
