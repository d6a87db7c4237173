"""A relay in a container believes that it is where nobody reaches it: its operator is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay import address, doctor
from relay.address import is_local_guess
from relay.config import RelayConfig, load_config
from relay.server import open_relay
from schemas.addresses import Address
from telemetry.checks import Check

INSIDE = "172.18.0.3"


def config_of(folder: Path, **settings: Any) -> RelayConfig:
    flags = {"listen": "0.0.0.0:0", "data_dir": str(folder), "dht": False} | settings
    return load_config(flags, {}, None)


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        address, "_reachable_host", lambda bound: INSIDE if bound in address._WILDCARDS else bound
    )


async def told(config: RelayConfig) -> list[Check]:
    found = await asyncio.to_thread(lambda: list(doctor.checks(config)))
    return [each for each in found if each.name == "advertise"]


async def test_who_shares_a_database_and_tells_a_container_s_address_is_warned(
    kj: None, tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path, database_url=database_url)
    async with open_relay(config) as relay:
        assert relay.address.address.host == INSIDE
        assert f"nodes elsewhere cannot reach {INSIDE}" in caplog.text
        assert "set advertise" in caplog.text
        [check] = await told(config)
        assert not check.ok
        assert INSIDE in check.detail
        assert "advertise" in check.fix
    caplog.clear()
    config = config_of(tmp_path, database_url=database_url, advertise="relay.example:7000")
    async with open_relay(config):
        assert "cannot reach" not in caplog.text
        assert await told(config) == []


async def test_a_relay_of_one_machine_may_be_for_its_network(
    kj: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path)
    async with open_relay(config):
        assert "cannot reach" in caplog.text
        assert [check.ok for check in await told(config)] == [True]


@pytest.mark.parametrize(
    ("host", "settings", "is_one"),
    [
        ("172.18.0.3", {}, True),
        ("192.168.1.5", {}, True),
        ("100.64.0.9", {}, True),  # behind a provider's NAT
        ("fd00::1", {"listen": "[::]:7000"}, True),
        ("8.8.8.8", {}, False),
        ("192.168.1.5", {"listen": "192.168.1.5:7000"}, False),  # that was said
        ("192.168.1.5", {"advertise": "192.168.1.5:7000"}, False),
    ],
)
def test_what_is_a_guess_that_nobody_elsewhere_reaches(
    tmp_path: Path, host: str, settings: dict[str, str], is_one: bool
) -> None:
    assert is_local_guess(config_of(tmp_path, **settings), Address(host, 7000)) == is_one
