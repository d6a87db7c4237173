"""The test program with members on OpenMLS in it: built, started, asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from os import environ
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).parent / "peer"
TARGET = ROOT / "target" / "openmls-peer"
BUILD_DEADLINE_S = 900.0
EXIT_DEADLINE_S = 10.0


class Refused(Exception):
    """OpenMLS refused; the text is its error."""


class PeerProcess:
    """The test program: a process with members on OpenMLS in it."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """It ends by itself when its input does."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(EXIT_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise

    def ask(self, member: str, operation: str, arguments: Mapping[str, object]) -> Any:
        """Raises Refused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"member": member, "ask": {operation: arguments}}
        self._process.stdin.write(json.dumps(request) + "\n")
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"the OpenMLS program died (code {self._process.wait()}) at {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]


def build_peer() -> Path:
    """Compiles the test program, if it has changed, and returns its path.

    Rust older than OpenMLS compiles with skips the tests: only they need it, not the product.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.fail("cargo not found: the OpenMLS peer of these tests is built from Rust")
    manifest = PEER / "Cargo.toml"
    wanted = tomllib.loads(manifest.read_text())["package"]["rust-version"]
    version = subprocess.run([cargo, "--version"], cwd=PEER, capture_output=True, text=True)
    found = re.match(r"cargo (\d+)\.(\d+)", version.stdout)
    if found is None:
        _build_failed([cargo, "--version"], version.stdout + version.stderr)
    if tuple(map(int, found.groups())) < tuple(map(int, wanted.split("."))):
        pytest.skip(f"OpenMLS needs Rust {wanted} or newer, this is {found[0]}")
    command = [cargo, "build", "--release", "--locked", "--manifest-path", str(manifest)]
    try:
        done = subprocess.run(
            command,
            cwd=PEER,
            env=environ | {"CARGO_TARGET_DIR": str(TARGET)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as late:
        _build_failed(command, f"not done after {BUILD_DEADLINE_S:.0f} s\n{late.stdout!r}")
    if done.returncode != 0:
        _build_failed(command, done.stdout)
    return TARGET / "release" / "openmls-peer"


def _build_failed(command: Sequence[str], output: str) -> NoReturn:
    pytest.fail(f"the OpenMLS peer was not built: {' '.join(command)}\n{output}", pytrace=False)
