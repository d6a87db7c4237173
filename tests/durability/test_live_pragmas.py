"""The settings that durability rests on, asked of the connections that running programs use.

`kill -9` does not model a power loss: the kernel still writes what a process had written, synced or
not. So `synchronous=FULL` has a test of its own, and the deaths in this folder cannot replace it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.processes.talk import wait_until
from tests.durability.programs import NodeProgram, RelayProgram
from tests.ports import free_ports

DURABLE = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.fixture
def programs(tmp_path: Path) -> tuple[RelayProgram, NodeProgram]:
    ports = free_ports(2)
    return RelayProgram("the-relay", tmp_path, ports[0]), NodeProgram("ada", tmp_path, ports[1])


def settings_in_use(
    relay: RelayProgram, node: NodeProgram, *, mutation: str = ""
) -> dict[str, dict[str, object]]:
    """By connection: what each live one says of itself, once all three have worked."""
    try:
        relay.start("none")
        node.relay = relay.address
        node.make_home()
        node.start("none", mutation=mutation)
        # The node publishes its records at the relay: both of the relay's connections work.
        wait_until(lambda: len(relay.pragmas()) == 2, "the relay wrote and read")
        wait_until(lambda: len(node.pragmas()) == 1, "the node wrote")
        return {str(said.pop("connection")): said for said in relay.pragmas() + node.pragmas()}
    finally:
        node.kill()
        relay.kill()


def check_durable(found: dict[str, dict[str, object]]) -> None:
    assert found == dict.fromkeys(("node", "relay writer", "relay reader"), DURABLE)


def test_every_commit_is_synced(programs: tuple[RelayProgram, NodeProgram]) -> None:
    check_durable(settings_in_use(*programs))


def test_a_node_that_does_not_sync_would_be_noticed(
    programs: tuple[RelayProgram, NodeProgram],
) -> None:
    found = settings_in_use(*programs, mutation="synchronous-off")
    with pytest.raises(AssertionError, match="'synchronous': 0"):
        check_durable(found)
