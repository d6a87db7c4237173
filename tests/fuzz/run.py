"""One target under atheris, in a process of its own: `python -m tests.fuzz.run TARGET …`.

What follows the name goes to libFuzzer: its options, and corpus folders.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["schemas", "identity", "discovery", "transport", "node"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *arguments], target.once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
