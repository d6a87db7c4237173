"""The real program on one home, with a passphrase or without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_SAME: Any = object()
_SEVERAL = """
import json, sys
from node.cli.main import main
for words in json.loads(sys.argv[-1]):
    print(json.dumps({"code": main([*sys.argv[1:-1], *words])}), flush=True)
"""


class Commander:
    """Asks with `--json`; `passphrase` goes through the environment's file."""

    def __init__(self, home: Path, passphrase: str | None = None) -> None:
        self.home = home
        self.passphrase = passphrase

    def _environment(self, passphrase: str | None) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("QUICNPROTOCHAT_")}
        ours |= {"PYTHONPATH": str(ROOT), "QUICNPROTOCHAT_MDNS": "0"}
        if passphrase is not None:
            file = self.home.with_name(f"{self.home.name}.passphrase")
            file.write_text(passphrase)
            ours["QUICNPROTOCHAT_PASSPHRASE_FILE"] = str(file)
        return ours

    def run(self, *words: str, passphrase: str | None = _SAME) -> tuple[int, list[dict[str, Any]]]:
        """(exit code, lines)."""
        chosen = self.passphrase if passphrase is _SAME else passphrase
        done = subprocess.run(
            [*self.command, *words],
            env=self._environment(chosen),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def several(
        self, *commands: Sequence[str], passphrase: str | None = _SAME, wrapper: Sequence[str] = ()
    ) -> list[tuple[int, list[dict[str, Any]]]]:
        """As `run` of each, in one process: Python starts once. `wrapper` is what starts it."""
        chosen = self.passphrase if passphrase is _SAME else passphrase
        done = subprocess.run(
            [*wrapper, sys.executable, "-c", _SEVERAL, *self._options, json.dumps(commands)],
            env=self._environment(chosen),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        outcomes: list[tuple[int, list[dict[str, Any]]]] = []
        lines: list[dict[str, Any]] = []
        for line in map(json.loads, done.stdout.splitlines()):
            if line.keys() == {"code"}:
                outcomes.append((line["code"], lines))
                lines = []
            else:
                lines.append(line)
        assert len(outcomes) == len(commands), done.stderr
        return outcomes

    @property
    def _options(self) -> list[str]:
        return ["--home", str(self.home), "--json"]

    @property
    def command(self) -> list[str]:
        program = "import sys; from node.cli.main import main; sys.exit(main())"
        return [sys.executable, "-c", program, *self._options]

    def ask(self, *words: str, passphrase: str | None = _SAME) -> dict[str, Any]:
        """The first line of a command that succeeds."""
        code, lines = self.run(*words, passphrase=passphrase)
        assert code == 0, lines
        return lines[0]

    def fails(self, *words: str, passphrase: str | None = _SAME) -> str:
        """The error's code."""
        code, lines = self.run(*words, passphrase=passphrase)
        assert code == 1, lines
        return str(lines[-1]["error"]["code"])

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """`run` on a free port, ready; killed at the end."""
        with (self.home.parent / f"{self.home.name}.log").open("a") as log:
            node = subprocess.Popen(
                [*self.command, "run", "--listen", "127.0.0.1:0", *options],
                env=self._environment(self.passphrase),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert node.stdout is not None
        try:
            assert json.loads(node.stdout.readline())["event"] == "ready"
            yield node
        finally:
            node.kill()
            node.wait()
            node.stdout.close()
