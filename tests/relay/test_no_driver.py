"""A relay without the extra `postgres`: it runs on SQLite, and says what PostgreSQL needs."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from relay.store.sqlite.database import MIGRATIONS
from storage.sqlite import migrate, open_database
from tests.relay.process import ROOT, clean_environment

WITHOUT = """
import sys
sys.modules["asyncpg"] = None  # as if it were not installed
from relay.main import main
main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
        timeout=60,
    )


def test_a_relay_on_sqlite_needs_no_driver(tmp_path: Path) -> None:
    with closing(open_database(tmp_path / "relay.db")) as connection:
        migrate(connection, MIGRATIONS)
    done = run("migrate", "--data-dir", str(tmp_path), "--json")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_missing_for_postgresql_is_said(tmp_path: Path) -> None:
    url = "postgresql://relay:s3cret@localhost/relay"
    for command in (("run", "--listen", "127.0.0.1:0"), ("stats",), ("doctor",), ("migrate",)):
        done = run(*command, "--data-dir", str(tmp_path), "--database-url", url, "--json")
        told = done.stdout + done.stderr
        assert done.returncode == 1
        assert "pip install asyncpg" in told, told
        assert "s3cret" not in told
        assert "Traceback" not in told
