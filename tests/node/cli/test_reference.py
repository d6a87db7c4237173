"""docs/commands.md is what the programs themselves say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_reference_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, "docs/commands.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert (ROOT / "docs" / "commands.md").read_text() == made, (
        "run: python docs/commands.py > docs/commands.md"
    )
