"""What `doctor` looks at: clock, disk, folder, database, port, the machine."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from typing import Final

from relay import machine
from relay.address import SET_ADVERTISE, is_local_guess, reachable_at, whereabouts
from relay.config import RelayConfig
from relay.store.opening import driver
from relay.store.sqlite.database import MIGRATIONS
from schemas.errors import Fault
from storage.files import too_open
from storage.lock import FolderLock
from storage.sqlite import blaming_the_disk, database_version, load_migrations, open_database
from telemetry.checks import Check

FREE_BYTES: Final = 1 << 30
SHORTEST_TOKEN: Final = 20
EARLIEST_S: Final = 1_767_225_600  # 2026: no clock that works is before this program


def checks(config: RelayConfig, *, now: Callable[[], float] = time.time) -> Iterator[Check]:
    """Look at everything. Raises nothing."""
    yield _folder(config)
    yield _disk(config)
    running = _running(config)
    yield Check("relay", True, "it runs" if running else "it does not run")
    yield from _address(config)
    yield _port(config, running=running)
    yield from _database(config, now())
    yield _admission(config)
    yield from machine.checks(config, now())


def _address(config: RelayConfig) -> Iterator[Check]:
    """What nodes are given, and who shares the database."""
    try:
        found = whereabouts(config)
    except Fault as fault:
        unused = fault.code in ("no-file", "no-database")
        detail = "none yet: its first start makes the key" if unused else fault.message
        yield Check("address", unused, detail, "" if unused else fault.hint)
        return
    yield Check("address", True, str(found.address))
    here = reachable_at(config, config.listen)
    told = {each.host for each in found.address.processes}
    if is_local_guess(config, here) and here.host in told:
        # On SQLite, which is for one machine, it may well be a relay for one network.
        detail = f"nodes elsewhere cannot reach {here.host}"
        yield Check("advertise", config.database_url is None, detail, SET_ADVERTISE)
    for each in found.processes:
        detail = f"{each.address}, version {each.version}, {each.standing}"
        silent = not each.live and not each.withdrawn
        yield Check("process", True, detail, "start it again, unless that is meant" * silent)


def limits_of(config: RelayConfig) -> dict[str, float]:
    """Every limit by its name in the settings."""
    named: dict[str, float] = {
        name: getattr(config, name)
        for name in ("parcel_ttl_s", "blob_ttl_s", "unfinished_blob_ttl_s")
    }
    for group in (config.quotas, config.limits):
        named |= {field.name: getattr(group, field.name) for field in fields(group)}
    return named


def _admission(config: RelayConfig) -> Check:
    if config.auth_token is not None and len(config.auth_token) < SHORTEST_TOKEN:
        fix = f"set one of {SHORTEST_TOKEN} random characters or more"
        return Check("admission", False, "auth_token is short enough to be guessed", fix)
    return Check("admission", True, config.admission)


def _folder(config: RelayConfig) -> Check:
    folder = config.data_dir
    if not folder.is_dir():
        return Check("folder", False, f"{folder} is not there", "start the relay once")
    if open_files := too_open(config.private_files):
        names = ", ".join(file.name for file in open_files)
        return Check("folder", False, f"others may use {names}", "restart the relay, or chmod 600")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check("folder", False, f"{folder} cannot be written", "mend its permissions")
    return Check("folder", True, str(folder))


def _disk(config: RelayConfig) -> Check:
    there = config.data_dir if config.database_url is not None else config.database.parent
    if not there.is_dir():
        return Check("disk", False, f"{there} is not there", "start the relay once")
    free = shutil.disk_usage(there).free
    wanted = min(config.quotas.total_bytes, FREE_BYTES)
    detail = f"{free >> 20} MiB free"
    return Check("disk", free >= wanted, detail, "" if free >= wanted else "free some space")


def _running(config: RelayConfig) -> bool:
    if not config.data_dir.is_dir():
        return False
    try:
        with FolderLock(config.data_dir):
            return False
    except Fault as fault:
        return fault.code == "already-running"


def _port(config: RelayConfig, *, running: bool) -> Check:
    if running:  # which one it has is not known here: its settings may be others
        return Check("port", True, "not tried: the relay runs")
    name = f"{config.listen} (UDP)"
    family = socket.AF_INET6 if ":" in config.listen.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((config.listen.host, config.listen.port))
    except OSError as error:
        fix = "choose another with --listen, or end the other program"
        return Check("port", False, f"{name}: {error.strerror}", fix)
    return Check("port", True, f"{name} is free")


def _database(config: RelayConfig, now: float) -> Iterator[Check]:
    if config.database_url is not None:
        yield from _server(config.database_url, now)
        return
    if not config.database.exists():
        yield Check("database", True, "there is none yet")
        yield _clock(now, 0)
        return
    newest = len(load_migrations(MIGRATIONS))
    try:
        with (
            closing(open_database(config.database, key=config.database_key)) as connection,
            blaming_the_disk(),
        ):
            version = database_version(connection)
            verdict = connection.execute("PRAGMA quick_check(1)").get
            if verdict != "ok":
                yield Check("database", False, f"damaged: {verdict}", "restore a backup")
            else:
                yield _version(version, newest)
            if version >= 2:
                damaged = connection.execute("SELECT count(*) FROM damaged").get
                yield _parcels(int(str(damaged)))
            probed = (
                connection.execute("SELECT value FROM meta WHERE name = 'probed'").get
                if version >= 2
                else 0
            )
            yield _clock(now, int(str(probed or 0)))
    except Fault as fault:
        yield Check("database", False, fault.message, fault.hint)


def _server(url: str, now: float) -> Iterator[Check]:
    """Of PostgreSQL; nothing of the URL is told."""
    try:
        with driver():
            from relay.store.postgres.inspection import inspect
        found = inspect(url)
    except Fault as fault:
        yield Check("database", False, fault.message, fault.hint)
        return
    yield _version(found.version, found.newest)
    if found.version:
        yield _parcels(found.damaged)
    yield _clock(now, found.probed)


def _version(version: int, newest: int) -> Check:
    if version > newest:
        detail = f"version {version}, this program knows {newest}"
        return Check("database", False, detail, "upgrade this program")
    return Check("database", True, f"version {version} of {newest}" if version else "empty")


def _parcels(damaged: int) -> Check:
    fix = "check the disk; see the table damaged" if damaged else ""
    return Check("parcels", not damaged, f"{damaged} were damaged on disk", fix)


def _clock(now: float, probed: int) -> Check:
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if now < EARLIEST_S:
        return Check("clock", False, f"{shown} is in the past", "set the clock (NTP)")
    if now < probed - 60:
        ahead = int(probed - now)
        return Check("clock", False, f"it went back by {ahead} s", "set the clock (NTP)")
    return Check("clock", True, shown)
