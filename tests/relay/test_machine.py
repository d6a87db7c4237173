"""What `doctor` says of the machine: the failure that each check is there for."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest

from relay import machine
from relay.config import RelayConfig
from schemas.addresses import Address
from telemetry.checks import Check
from tests.relay.support import config_for
from tests.relay.test_certificates import issue


def seen(config: RelayConfig, name: str) -> Check:
    [found] = [each for each in machine.checks(config, time.time()) if each.name == name]
    return found


def test_a_machine_that_is_well_fails_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    found = list(machine.checks(config_for(tmp_path), time.time()))
    assert [each for each in found if not each.ok] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind, ok", [("nfs4", False), ("tmpfs", True), ("ext4", True)])
def test_a_database_on_another_machines_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, ok: bool
) -> None:
    """SQLite's locks do not hold there."""
    monkeypatch.setattr(machine, "filesystem_of", lambda _: kind)
    check = seen(config_for(tmp_path), "disk type")
    assert check.ok == ok
    assert kind in check.detail


def test_the_filesystem_of_a_folder_is_that_of_the_nearest_mount() -> None:
    assert machine.filesystem_of(Path("/proc/self")) == "proc"
    assert machine.filesystem_of(Path("/sys")) in ("sysfs", "")


def test_a_disk_that_does_not_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    assert not seen(config_for(tmp_path), "fsync").ok


def test_few_open_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert not seen(config_for(tmp_path), "nofile").ok


def test_a_certificate_that_ends_is_told(tmp_path: Path) -> None:
    files = {"metrics_tls_cert": tmp_path / "cert.pem", "metrics_tls_key": tmp_path / "key.pem"}
    config = config_for(tmp_path, **files)
    assert not seen(config, "certificate").ok, "there is none"
    for days, ok in ((30.0, True), (3.0, False), (-1.0, False)):
        issue(tmp_path, 1, days=days)
        assert seen(config, "certificate").ok == ok, days


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"log_level": "debug"}, "log_level"),
        ({"parcel_ttl_s": 3600}, "parcel_ttl_s"),
        ({"auth_token": "opensesame", "admission": "token"}, "auth_token"),
        ({"metrics": Address("0.0.0.0", 9100), "metrics_open": True}, "metrics"),
    ],
)
def test_dangerous_settings_are_told(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    check = seen(config_for(tmp_path, **changes), "settings")
    assert not check.ok
    assert word in check.detail
    assert check.fix


@pytest.mark.parametrize(
    "changes", [{"mailbox_bytes": 2**40, "total_bytes": 2**30}, {"strangers_share": 1.0}]
)
def test_quotas_that_undo_each_other_are_told(tmp_path: Path, changes: dict[str, float]) -> None:
    config = config_for(tmp_path)
    worse = replace(config, quotas=replace(config.quotas, **changes))  # type: ignore[arg-type]
    assert not seen(worse, "settings").ok
