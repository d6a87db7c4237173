"""`send --wait delivered`: queue messages, then follow the ledger until everybody has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

from node.cli.state import TimedOut
from schemas.errors import Blame, Fault

if TYPE_CHECKING:
    from node.api.session import Session
    from node.api.shapes import LedgerRow, Send, Sent

ARRIVED: Final = frozenset({"delivered", "read"})
LOST: Final = frozenset({"expired", "refused"})
_LEAST_FIRST: Final = ("refused", "expired", "queued", "carried", "held", "sent", "delivered")


def send_and_wait(
    session: Session,
    requests: Sequence[Send],
    timeout_s: float | None,
    show: Callable[[Sent], None],
) -> None:
    """Send each, wait for all, and show each once with where it got to, whatever happens.

    Raises TimedOut; Fault `not-delivered` when a recipient never gets it.
    """
    from node.api import operations as op

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    sent: list[Sent] = []
    rows: dict[str, list[LedgerRow]] = {}
    try:
        with closing(session.events(deadline)) as events:
            next(events, None)  # subscribed: from here on nothing is missed
            for request in requests:
                sent.append(session.call(op.SEND, request))
            open_ones = [one.message for one in sent]
            _look(session, open_ones, rows)
            while open_ones:
                event = next(events, None)
                if event is None:
                    break
                about = event.get("message")
                if event["event"] == "ledger" and about is not None and about not in open_ones:
                    continue
                _look(session, open_ones, rows)
    finally:
        for one in sent:
            one.status = status_of(rows.get(one.message), one.status)
            show(one)
    lost = sum(row.state in LOST for each in rows.values() for row in each)
    if open_ones:
        raise TimedOut(
            f"not delivered to everybody within {timeout_s:g} s",
            "the node goes on trying; `quicnprotochat why MESSAGE` says what is missing",
        )
    if lost:
        raise Fault(
            "not-delivered",
            f"{lost} device{'s' if lost > 1 else ''} did not get it",
            blame=Blame.ENVIRONMENT,
            hint="`quicnprotochat ledger MESSAGE` says who and why",
        )


def _look(session: Session, open_ones: list[str], rows: dict[str, list[LedgerRow]]) -> None:
    """Read the ledger of the open messages, and close those that came to an end everywhere."""
    from node.api import operations as op
    from node.api.shapes import ByMessage

    for message in list(open_ones):
        rows[message] = session.call(op.LEDGER, ByMessage(message))
        if all(row.state in ARRIVED | LOST for row in rows[message]):
            open_ones.remove(message)


def status_of(rows: list[LedgerRow] | None, otherwise: str) -> str:
    """The state of the recipient that is least far."""
    if rows is None:
        return otherwise
    states = {row.state for row in rows}
    if states <= ARRIVED:
        return "delivered"
    return next((state for state in _LEAST_FIRST if state in states), otherwise)
