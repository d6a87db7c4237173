"""The program on OpenMLS, built once, and a table for one group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openmls.program import PeerProcess, build_peer
from tests.openmls.table import Table


@pytest.fixture(scope="session")
def peer_program() -> Path:
    return build_peer()


@pytest.fixture
def table(peer_program: Path) -> Iterator[Table]:
    with PeerProcess(peer_program) as process:
        yield Table(process)
