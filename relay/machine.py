"""What `doctor` sees of the machine under a relay: clock, disk, network, limits, settings."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relay.config import RelayConfig, is_loopback
from relay.web_certificate import DAY_S, usable_until
from telemetry.checks import Check
from transport import DEFAULT_LIMITS

SLOW_SYNC_S: Final = 0.5
FEW_FILES: Final = 256  # one socket for all nodes; the database, /metrics and libraries have some
FEW_BYTES: Final = 1 << 20  # of the socket's buffer
CERTIFICATE_DAYS: Final = 7.0
SHORT_TTL_S: Final = 86_400
SHORT_TOKEN: Final = 20
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_FAR_AWAY: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs")
FORGETFUL: Final = ("tmpfs", "ramfs")  # their files go with the power


def checks(config: RelayConfig, now: float) -> Iterator[Check]:
    """Look at the machine; all that is written is one small file, deleted at once."""
    yield _ntp()
    folder = config.database.parent
    if folder.is_dir():
        yield _disk_type(folder)
        if config.database_url is None:
            yield _room(config, folder)
        yield _sync(folder)
    yield _buffers()
    yield _files()
    yield _certificate(config, now)
    yield from settings(config)


def _ntp() -> Check:
    """Whether something keeps the clock right: mail expires by it."""
    fix = "run chrony or systemd-timesyncd"
    try:
        state = ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(512))  # only reads
    except (OSError, AttributeError):
        return Check("ntp", True, "not known on this system")
    if state == _TIME_ERROR:
        return Check("ntp", True, "nothing keeps the clock right, as far as the kernel knows", fix)
    return Check("ntp", True, "the clock is synchronised")


def _disk_type(folder: Path) -> Check:
    kind = filesystem_of(folder)
    if kind in _FAR_AWAY:
        return Check("disk type", False, f"{kind}: on another machine", "use a disk of this one")
    if kind in FORGETFUL:
        return Check("disk type", True, f"{kind}: gone after a restart", "use a disk")
    return Check("disk type", True, kind or "not known")


def filesystem_of(folder: Path) -> str:
    """`ext4`, …; empty where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    wanted, best, found = str(folder.resolve()), -1, ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = mount.split()[4].replace("\\040", " ")
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # the later one covers the earlier
            best, found = len(point), source.split()[0]
    return found


def _room(config: RelayConfig, folder: Path) -> Check:
    """A hint: a relay that fills up refuses, and loses nothing."""
    held = config.database.stat().st_size if config.database.exists() else 0
    room = shutil.disk_usage(folder).free + held
    detail = f"{room >> 20} MiB for {config.quotas.total_bytes >> 20} MiB of total_bytes"
    fits = config.quotas.total_bytes <= room
    return Check("room", True, detail, "" if fits else "lower total_bytes, or use a larger disk")


def _sync(folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took = time.perf_counter() - begun
    except OSError as error:
        return Check(
            "fsync", False, f"{error.strerror}", "mend the disk or the folder's permissions"
        )
    fast = took < SLOW_SYNC_S
    return Check("fsync", fast, f"{took * 1000:.1f} ms", "" if fast else "use a faster disk")


def _buffers() -> Check:
    wanted = DEFAULT_LIMITS.socket_buffer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux tells the double
    fix = f"sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}"
    detail = f"{given >> 10} KiB of {wanted >> 10}"
    return Check("udp buffers", True, detail, fix if given < FEW_BYTES else "")


def _files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < FEW_FILES
    return Check("nofile", not few, f"{soft} open files", f"ulimit -n {FEW_FILES}" if few else "")


def _certificate(config: RelayConfig, now: float) -> Check:
    cert, key = config.metrics_tls_cert, config.metrics_tls_key
    if cert is None or key is None:
        return Check("certificate", True, "its own is made anew each day")
    try:
        days = (usable_until(cert, key, now) - now) / DAY_S
    except (OSError, ValueError) as error:
        return Check("certificate", False, f"of /metrics: {error}", "renew it; SIGHUP reads it")
    late = days < CERTIFICATE_DAYS
    detail = f"of /metrics: {days:.0f} days left"
    return Check("certificate", not late, detail, "renew it; SIGHUP reads it" if late else "")


def settings(config: RelayConfig) -> Iterator[Check]:
    """Settings that are each allowed, and dangerous here or together."""
    found = list(_dangers(config))
    if not found:
        yield Check("settings", True, "none that is dangerous")
    for detail, fix in found:
        yield Check("settings", False, detail, fix)


def _dangers(config: RelayConfig) -> Iterator[tuple[str, str]]:
    quotas = config.quotas
    if config.log_level == "debug":
        yield "log_level = debug: the log says who talks when", "log_level = info, and delete it"
    if quotas.mailbox_bytes > quotas.total_bytes:
        yield "mailbox_bytes is above total_bytes: one mailbox fills the relay", "lower it"
    if config.auth_token is not None and len(config.auth_token) < SHORT_TOKEN:
        yield "auth_token is short: it can be guessed", f"{SHORT_TOKEN} random characters or more"
    if quotas.strangers_share >= 1:
        yield "strangers_share = 1: made-up mailboxes shut out those of people", "lower it"
    if config.parcel_ttl_s < SHORT_TTL_S:
        yield "parcel_ttl_s is below a day: who is away for longer loses mail", "raise it"
    where = config.metrics
    if where is not None and not is_loopback(where) and config.metrics_tls_cert is None:
        yield (
            f"metrics on {where} without a certificate: for whoever reaches it to read",
            "a network that only the monitor reaches, or metrics_tls_cert",
        )
