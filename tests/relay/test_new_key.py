"""A relay whose key was forgotten, as by half of a restore, says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import SEED_FILE
from relay.server import open_relay
from tests.relay.support import config_for


async def test_a_new_key_beside_an_old_database_is_told(
    kj: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def device() -> str:
        async with open_relay(config_for(tmp_path)) as relay:
            return relay.device.hex()

    first = await device()
    assert await device() == first
    assert "new key" not in caplog.text
    (tmp_path / SEED_FILE).unlink()
    assert await device() != first
    assert "this relay has a new key" in caplog.text
