"""Takes each defence out of a copy of the source and looks whether its tests notice.

python -m tests.hazards [WORD…]: those whose name has one of the words; all take 15 minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hazards.defence import ROOT, Defence, Removal
from tests.hazards.defences import DEFENCES

TEST_S = 60.0  # a test that hangs without the defence has noticed
FAILED, KILLED = 1, -1


def copy_source(to: Path) -> None:
    """The sources as they are on disk now."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def run_tests(root: Path, *tests: str) -> tuple[int, str]:
    """(pytest's exit code or KILLED, what it said)"""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, f"--timeout={TEST_S:g}", *tests],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=TEST_S * (1 + len(tests)),
        )
    except subprocess.TimeoutExpired:
        return KILLED, "hangs"
    code = done.returncode
    return (KILLED if code < 0 else code), done.stdout


def check(root: Path, defence: Defence) -> list[str]:
    """What went other than it should: tests that did not notice, or a place that is not there."""
    missed = []
    before: list[tuple[Removal, str]] = []
    try:
        for removal in defence.removals:
            before.append((removal, removal.apply(root)))
        for test in defence.tests:
            code, said = run_tests(root, test)
            if code not in (FAILED, KILLED):
                missed.append(f"{test} (exit {code})\n{said[-600:]}" if code else test)
    except ValueError as error:
        missed.append(str(error))
    finally:
        for removal, source in reversed(before):
            removal.write(root, source)
    return missed


def main() -> int:
    words = sys.argv[1:]
    chosen = [d for d in DEFENCES if not words or any(word in d.name for word in words)]
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="hazards-") as folder:
        root = Path(folder)
        copy_source(root)
        code, said = run_tests(root, *dict.fromkeys(t for each in chosen for t in each.tests))
        if code:
            print(f"{said[-3000:]}\nthese fail with every defence in its place")
            return 2
        for each in chosen:
            began = time.monotonic()
            missed = check(root, each)
            unnoticed += bool(missed)
            verdict = "NOT NOTICED by " + ", ".join(missed) if missed else "noticed"
            print(f"{time.monotonic() - began:5.1f} s  {each.name}: {verdict}", flush=True)
    print(f"{len(chosen)} defences taken out, {unnoticed} not noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
