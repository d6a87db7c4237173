"""A node or relay without X25519MLKEM768: `python -m tests.node.cli.only_x25519 PROGRAM …`."""

from __future__ import annotations

import sys

from transport import hello
from transport.key_exchange import Group


def main() -> None:
    program, *arguments = sys.argv[1:]
    vars(hello)["PREFERENCE"] = (Group.X25519,)
    if program == "node":
        from node.cli.main import main as node_main

        sys.exit(node_main(arguments))
    from relay.main import main as relay_main

    relay_main(arguments)


if __name__ == "__main__":
    main()
