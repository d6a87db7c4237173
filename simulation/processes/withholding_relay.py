"""The real relay, which takes parcels for some mailboxes and never hands them out.

python -m simulation.processes.withholding_relay FILE ARGUMENT…

FILE names the devices, one hex key a line; it is read at every look into a mailbox, and need not
be there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from relay.main import main as relay_main
from relay.store.contract import MailboxName
from relay.store.sqlite.store import SqliteStore
from schemas.node_service import Mailbox


def withhold(listed: Path) -> None:
    """From now on the mailboxes of the devices in that file look empty to whoever reads them."""
    honest = SqliteStore.peek

    def withheld() -> list[str]:
        return listed.read_text().split() if listed.exists() else []

    async def peek(store: SqliteStore, name: MailboxName, **how: Any) -> Mailbox:
        mailbox = await honest(store, name, **how)
        if name.recipient.hex() in withheld():
            return Mailbox((), 0, 0, mailbox.refused_since)
        return mailbox

    SqliteStore.peek = peek  # type: ignore[method-assign, assignment]


def main() -> None:
    """Patch the one place that looks into mailboxes, then be the relay."""
    listed, *arguments = sys.argv[1:]
    withhold(Path(listed))
    relay_main(arguments)


if __name__ == "__main__":
    main()
