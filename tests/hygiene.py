"""`make check`, the part no linter knows: no registry address, no machine's path, small wheels.

Run as a script: `hygiene.py` reads every tracked text file; `hygiene.py --wheel BYTES` builds the
bindings' wheels and holds the size of each against the limit.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BINDINGS = ("mls-rs-python", "opaque-ke-python")

# Hosts are spelt in pieces, or this file would find itself.
_HOSTS = (
    "pypi" + r"\.org",
    "pythonhosted" + r"\.org",
    "crates" + r"\.io",
    "static\\.rust-lang" + r"\.org",
    "registry\\.npm" + r"js\.org",
    "proxy\\.golang" + r"\.org",
    "repo\\.maven" + r"\.apache\.org",
    "deb\\.debian" + r"\.org",
)
_ADDRESS = re.compile("|".join(_HOSTS))
_PRIVATE = re.compile(r"/(?:root|home/\w+)/[\w.]|/work/(?:main|shared)")
_LOCKS = ("requirements.lock", "bootstrap.lock")
# cargo writes the id of its registry, which holds an address, into each entry itself.
_CARGO_ID = re.compile(r'^source = "registry\+[^"]*"$', re.MULTILINE)


def findings() -> list[str]:
    """Lines `file:line: what` for everything that must not be in a tracked file."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    found = []
    for name in filter(None, names):
        path = ROOT / name
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        if path.name == "Cargo.lock":
            text = _CARGO_ID.sub("", text)
        for number, line in enumerate(text.splitlines(), 1):
            if _ADDRESS.search(line):
                found.append(f"{name}:{number}: a registry's address")
            if path.name in _LOCKS and ("://" in line or "--index" in line):
                found.append(f"{name}:{number}: an address in a lock")
            if _PRIVATE.search(line) and path != Path(__file__):
                found.append(f"{name}:{number}: a path of one machine")
    return found


def wheel_bytes(binding: str) -> int:
    """The size of a binding's wheel, built from the sources as they are."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--out", folder],
            cwd=ROOT / "bindings" / binding,
            check=True,
            capture_output=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=int, metavar="BYTES", help="limit of each binding's wheel")
    limit = parser.parse_args().wheel
    if limit is not None:
        sizes = {binding: wheel_bytes(binding) for binding in BINDINGS}
        for binding, size in sizes.items():
            print(f"wheel of {binding}: {size:,} bytes; the limit is {limit:,}")
        return 0 if max(sizes.values()) <= limit else 1
    found = findings()
    print("\n".join(found) or "no registry address, no machine's path in any tracked file")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
