"""Where the program begins: an interrupt before it has begun ends it without a traceback."""

from __future__ import annotations

import signal
import sys

# Imports write nothing, so until a command runs the kernel may simply end the process.
_handler = signal.getsignal(signal.SIGINT)
if _handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Run the command of `sys.argv`; returns the exit code."""
    from node.cli.main import main as run

    if _handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handler)
    try:
        return run()
    finally:
        if _handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
