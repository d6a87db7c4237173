"""`run --post-quantum-only`, in processes: who has only X25519 is not connected to, either way, and
the node says why; what may go by a relay goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.api import operations as op
from node.api import shapes as s
from simulation.processes.talk import SETTLED, wait_until
from tests.durability.programs import NodeProgram, Program, RelayProgram
from tests.ports import free_ports

OLD = "tests.node.cli.only_x25519"


@dataclass
class Strict(NodeProgram):
    def _arguments(self) -> tuple[str, str, list[str]]:
        script, program, arguments = super()._arguments()
        return script, program, [*arguments, "--post-quantum-only"]


@dataclass
class Old(NodeProgram):
    through: str = OLD


class Programs:
    """A relay and nodes; `node` starts one more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = iter(free_ports(3))
        self.relay = RelayProgram("the-relay", folder, next(self._ports))
        self._all: list[Program] = [self.relay]

    def node(self, kind: type[NodeProgram], name: str) -> NodeProgram:
        node = kind(name, self._folder, next(self._ports), relay=self.relay.address)
        self._all.append(node)
        node.make_home()
        node.start()
        node.device = node.ready["device"]
        node.identity = node.call(op.WHOAMI, s.Nothing()).identity
        return node

    def end(self) -> None:
        for program in self._all:
            program.kill()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    try:
        yield made
    finally:
        made.end()


def counted(node: NodeProgram, reason: str) -> bool:
    return node.call(op.NODE, s.Nothing()).counters.get(reason, 0) > 0


def connected(node: NodeProgram) -> dict[str, str | None]:
    """The key exchange with each peer that the node is connected to."""
    peers = node.call(op.PEERS, s.Nothing())
    return {peer.device: peer.key_exchange for peer in peers if peer.connected}


@pytest.mark.parametrize("kind", [Strict, NodeProgram])
def test_a_peer_with_x25519_only(programs: Programs, kind: type[NodeProgram]) -> None:
    programs.relay.start()
    ada, bob = programs.node(kind, "ada"), programs.node(Old, "bob")
    ada.knows(bob)
    bob.knows(ada)
    group = ada.call(op.CREATE_GROUP, s.CreateGroup("tea")).group
    ada.call(op.INVITE, s.Invite(group, [bob.identity]))
    bob.join(group)
    there = ada.call(op.SEND, s.Send("there", group)).message
    back = bob.call(op.SEND, s.Send("back", group)).message
    wait_until(lambda: ada.states(there)[bob.device] in SETTLED, "ada's message arrives")
    wait_until(lambda: bob.states(back)[ada.device] in SETTLED, "bob's message arrives")
    if kind is Strict:
        wait_until(lambda: counted(ada, "dial-not-post-quantum"), "dialling it is given up")
        refused = "transport-handshake-not-post-quantum"
        wait_until(lambda: counted(ada, refused), "its dialling is refused")
        assert connected(ada) == connected(bob) == {}
        [row] = ada.call(op.LEDGER, s.ByMessage(there))
        assert row.path == "relay"
    else:
        assert connected(ada) == {bob.device: "X25519"}, "no test of the above"


def test_a_relay_with_x25519_only(programs: Programs) -> None:
    programs.relay.through = OLD
    programs.relay.start()
    ada = programs.node(Strict, "ada")
    wait_until(lambda: counted(ada, "relay-not-post-quantum"), "the relay is refused")
    assert "no post-quantum key exchange" in ada.log.read_text()
