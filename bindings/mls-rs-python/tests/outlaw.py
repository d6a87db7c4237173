"""A member without rules: plain mls-rs in a process of its own, built once per session."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


class Outlaw:
    """Speaks the lines of benchmarks/mls-rs-reference/src/outlaw.rs."""

    def __init__(self, suite: int, name: bytes | None = None) -> None:
        self._process = subprocess.Popen(
            [build(), "outlaw", str(suite), *([] if name is None else [name.decode()])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def close(self) -> None:
        with self._process as process:
            process.stdin.close()

    def ask(self, verb: str, *arguments: bytes | int) -> bytes:
        words = [a.hex() if isinstance(a, bytes) else str(a) for a in arguments]
        print(verb, *words, file=self._process.stdin)
        state, _, rest = self._process.stdout.readline().strip().partition(" ")
        assert state == "ok", f"{verb}: {rest}"
        return bytes.fromhex(rest)


def build() -> Path:
    """With the settings of the binding's own build: cargo has all but the program itself."""
    done = subprocess.run(
        ["cargo", "build", "--release", "--locked", "-q", "-p", "mls-rs-reference"],
        cwd=ROOT,
        env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return TARGET / "release" / "mls-rs-reference"
