"""`capacity`: measures really, leaves nothing behind, and says what it has assumed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from relay.capacity.disk import PARCEL_BYTES
from relay.capacity.estimate import SETTINGS, Assumptions, Measured, estimate, told
from tests.relay.process import RelayProcess, run_relay

MACHINE = Measured(
    acks_per_s=1000, subscriber_bytes=100_000, memory_available=10**9, disk_free=10**12
)


PLENTY = dict.fromkeys(SETTINGS, 10**12)


def test_users_are_what_the_scarcest_resource_bears() -> None:
    """50 messages to 5 devices: 250 parcels a day, 37.5 in the busiest hour, two writes each."""
    found = estimate(MACHINE, Assumptions(), PLENTY)
    machine = {
        "processor and disk speed": 24_000,  # 1000 / 2 / 2 a second, for 37.5 an hour
        "disk space": int(0.5 * 10**12 / (250 * 0.1 * 7 * PARCEL_BYTES) / 10**5) * 10**5,
        "memory": 10_000,  # half of 1 GB, for half of the users
    }
    assert {name: found.by[name] for name in machine} == machine
    assert set(found.by) - set(machine) == set(SETTINGS)
    assert (found.users, found.bound) == (10_000, "memory")
    slow = estimate(replace(MACHINE, acks_per_s=100), Assumptions(), PLENTY)
    assert (slow.users, slow.bound) == (2_400, "processor and disk speed")
    full = estimate(replace(MACHINE, disk_free=10**7), Assumptions(), PLENTY)
    assert full.bound == "disk space"
    blind = replace(MACHINE, subscriber_bytes=None)
    assert "memory" not in estimate(blind, Assumptions(), PLENTY).by
    text = told(found, Assumptions())
    assert "about 10,000 users who write 50 messages a day" in text
    assert "the machine's memory is what ends first" in text
    assert " set " not in text


def test_a_setting_that_ends_before_the_machine_is_named_with_what_to_set() -> None:
    waiting = 250 * 0.1 * 7 * PARCEL_BYTES  # of one user
    small = PLENTY | {"total_bytes": int(3_000 * waiting), "connections": 4_000}
    found = estimate(MACHINE, Assumptions(), small)
    assert (found.users, found.bound) == (3_000, "total_bytes")
    assert (found.machine_users, found.machine_bound) == (10_000, "memory")
    assert found.raise_to == {"total_bytes": int(10_000 * waiting), "connections": 5_000}
    text = told(found, Assumptions())
    assert "about 3,000 users" in text
    assert "the setting total_bytes is what ends first" in text
    assert f"set total_bytes = {int(10_000 * waiting)}, connections = 5000." in text
    enough = estimate(MACHINE, Assumptions(), small | found.raise_to)
    assert (enough.users, enough.bound, enough.raise_to) == (10_000, "memory", {})


def test_this_machine_is_measured_beside_a_relay_that_runs_and_nothing_stays(
    tmp_path: Path,
) -> None:
    with RelayProcess(tmp_path):
        before = {file.name for file in tmp_path.iterdir()}
        settings = {"QUICNPROTOCHAT_TOTAL_BYTES": "16777216"}
        command = ("capacity", "--data-dir", str(tmp_path), "--seconds", "2", "--json")
        done = run_relay(*command, **settings)
        assert done.code == 0, done.err
        assert {file.name for file in tmp_path.iterdir()} == before
    told = json.loads(done.out)
    assert told["users"] == min(told["by"].values()) > 0
    assert (told["bound"], told["limits"]["total_bytes"]) == ("total_bytes", 16777216)
    assert told["machine_users"] > told["users"]
    assert told["raise_to"]["total_bytes"] > 16777216
    assert set(told["store"]) == set(told["quic"]) == {"1", "16", "64"}
    for rate in (told["fsync"], *told["store"].values(), *told["quic"].values()):
        assert 0 < rate["p50_ms"] <= rate["p99_ms"]
        assert rate["per_s"] > 0
    assert told["subscriber_bytes"] is None or told["subscriber_bytes"] < 10**7
    assert told["assumptions"]["messages_per_day"] == 50
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_in_which_nothing_can_be_made_is_refused() -> None:
    nowhere = str(Path(os.sep, "proc", "none"))
    done = run_relay("capacity", "--data-dir", nowhere, "--json")
    assert (done.code, done.error["code"]) == (1, "cannot-use-folder")
    assert "Traceback" not in done.err
