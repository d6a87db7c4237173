"""The ledger for users: where a message is, and in one sentence why it is not there yet."""

from __future__ import annotations

from node.backup import RESTORED
from node.engine import commands, values
from node.engine.by_hand import EXPORTED
from node.engine.conversation import GROUP_SPLIT
from node.engine.core import Core
from node.engine.requests import REQUEST_FULL, TOO_MANY_REQUESTS
from node.engine.values import State
from node.engine.views import PREFIX_DIGITS
from node.store.outbox import LedgerRow
from schemas.errors import Refused
from schemas.ids import MessageId
from schemas.times import utc

_NO_MEMBER = (
    "The relay of {name} keeps mail for its members only, and does not count {name} as one.",
    "It is tried again by itself. Ask {name} to log in at their relay, or to use another.",
)
_RELAY_FAILS = (
    "The relay of {name} can keep nothing at present: its disk or its database fails.",
    "It is tried again by itself, also at other relays of theirs.",
)
# reason of a queued message -> (sentence, action); {name} is the recipient
_QUEUED = {
    GROUP_SPLIT: (
        "The group is split: two members changed it at once. Whose change counts is being decided.",
        "It goes out by itself then, normally within seconds. If it lasts, see `doctor GROUP`.",
    ),
    "no-hybrid-key": (
        "The keys of {name}'s device are not here yet, so nothing can be sealed to it.",
        "They arrive as soon as {name} or one of their relays can be reached once.",
    ),
    "relay-key-changed": (
        "The relay of {name} answers with another key than the one in {name}'s bundle.",
        "Nothing is given to it. Ask {name} whether their relay was set up anew.",
    ),
    "relay-unreachable": (
        "Neither {name}'s device nor a relay of theirs can be reached.",
        "It is tried again by itself. See `health` and `peers`; ask {name} to start their node.",
    ),
    "wrong-peer": (
        "Somebody else answers at {name}'s address.",
        "It is tried again by itself; {name}'s node announces its new address when it runs.",
    ),
    "not-post-quantum": (
        "{name}'s device has no post-quantum key exchange, and this node connects to no other.",
        "Ask {name} to upgrade, or run without --post-quantum-only. A relay can still carry it.",
    ),
    "policy-direct-only": (
        "{name}'s device cannot be reached directly, and the policy for {name} allows no relay.",
        "It is tried again by itself. `policy {name} auto` would let a relay carry it.",
    ),
    "policy-lan-only": (
        "{name}'s device is not on this network, and the policy for {name} is lan-only.",
        "It goes out when both are on one network. `policy {name} auto` would allow other paths.",
    ),
    "policy-relay-only": (
        "No relay has taken it, and the policy for {name} is relay-only.",
        "It is tried again by itself. See `health`; `policy {name} auto` would allow other paths.",
    ),
    "recipient-cannot-open": (
        "{name}'s device could not open it: it has newer keys than we know.",
        "It is sealed again with the newer keys by itself; ask {name} to stay online.",
    ),
    "recipient-lacks-keys": (
        "{name}'s device has no keys any more for the time when it was written.",
        "It is sealed again by itself, once this node has caught up with the group.",
    ),
    "deferred": (
        "{name}'s node asked to wait: it cannot store anything just now.",
        "It is tried again by itself; if it lasts, ask {name} to free some disk space.",
    ),
    "connection-lost": (
        "The connection to {name}'s device broke off before it was confirmed.",
        "It is tried again by itself, at once.",
    ),
    "not-acknowledged": (
        "{name}'s device takes the message and never confirms that it has it.",
        "It is left at a relay of theirs, if they have one. Ask {name} to restart their node.",
    ),
    "stopped": (
        "Our own node stopped before it was confirmed.",
        "It is tried again by itself while a node runs.",
    ),
    "too-large-for-peer": (
        "{name}'s device takes no message of this size.",
        "Send it in smaller pieces.",
    ),
    "delivery-token-refused": (
        "{name}'s relay does not know our delivery token, or does not count {name} as a member.",
        "It is tried again; a token comes with {name}'s next message. Else ask what `relays` says.",
    ),
    "delivery-token-full": (
        "Too much of ours waits in the relay's mailbox of {name}.",
        "It is tried again by itself; ask {name} to start their node and fetch their mail.",
    ),
    "not-admitted": _NO_MEMBER,
    "no-mailbox": _NO_MEMBER,
    "disk-full": _RELAY_FAILS,
    "store-unavailable": _RELAY_FAILS,
    "device-revoked": (
        "The relay of {name} takes no mail for this device: it was revoked.",
        "Ask {name} whether the device is still theirs, or to use another relay.",
    ),
    "relay-full": (
        "The relay of {name} has no room left.",
        "It is tried again by itself, also at other relays of theirs.",
    ),
    "mailbox-full": (
        "The relay's mailbox of {name} is full.",
        "It is tried again by itself; ask {name} to start their node and fetch their mail.",
    ),
}
_UNREACHABLE = (
    "{name}'s device cannot be reached, and no relay has taken the message.",
    "It is tried again by itself. Ask {name} to start their node, or add a relay: run --relay.",
)
_FINAL = {
    State.EXPIRED: (
        "It expired before {name}'s device could be reached.",
        "Send it again if it still matters.",
    ),
    State.REFUSED: ("{name}'s device refused it ({reason}).", "Ask {name}; then send it again."),
}
_REQUEST_FULL = (
    "{name} has not accepted your invitation, and no more is kept there until they do.",
    "Ask {name} to join; then send it again.",
)
_INVITATION_WAITS = (
    "Too many invitations by strangers wait for an answer at {name}'s, and yours has no room.",
    "It is tried again by itself; ask {name} to answer some, or to add your card.",
)
_RESTORED = (
    "It was under way when the backup was made; whether {name} got it is not known.",
    "Send it again if it still matters.",
)


class Explain:
    def __init__(self, core: Core) -> None:
        self._core = core

    def ledger(self, command: commands.ReadLedger) -> tuple[values.LedgerView, ...]:
        return tuple(
            values.LedgerView(
                row.identity,
                row.device,
                self._core.name_of(row.identity),
                State(row.state),
                row.path,
                row.relay,
                row.held_until,
                row.updated,
                row.reason,
                by := self._core.carrier(row),
                "" if by is None else self._core.name_of(by),
            )
            for row in self._rows(command.message)
        )

    def why(self, command: commands.Why) -> tuple[values.WhyView, ...]:
        waiting = [
            row
            for row in self._rows(command.message)
            if row.state not in (State.DELIVERED, State.READ)
        ]
        return tuple(
            values.WhyView(
                row.identity,
                row.device,
                self._core.name_of(row.identity),
                State(row.state),
                *self.explain(row),
            )
            for row in waiting
        )

    def _rows(self, text: str) -> list[LedgerRow]:
        prefix = text.strip().lower()
        hexadecimal = set(prefix) <= set("0123456789abcdef")
        if len(prefix) < PREFIX_DIGITS or not hexadecimal:
            raise Refused(
                "unknown-message",
                f"no message {text[:80]!r}",
                hint=f"give its id, or at least the first {PREFIX_DIGITS} digits",
            )
        rows = self._core.messages.find(prefix)
        # Another member may reuse our id: ours is the one that has a ledger.
        found = {row.id: row for row in [row for row in rows if row.own] or rows}
        if not found:
            raise Refused("unknown-message", f"no message {text[:80]!r}")
        if len(found) > 1:
            raise Refused("ambiguous-name", f"{text!r} begins several ids", hint="give more digits")
        message, row = next(iter(found.items()))
        if not row.own:
            raise Refused(
                "not-yours", "this message is somebody else's", hint="only its author has a ledger"
            )
        return self._core.outbox.ledger(MessageId(message))

    def explain(self, row: LedgerRow) -> tuple[str, str]:
        """(sentence, action) about a message that a person does not have yet."""
        name = self._core.name_of(row.identity)
        state = State(row.state)
        if row.reason == TOO_MANY_REQUESTS:
            sentence, action = _INVITATION_WAITS
        elif row.reason == REQUEST_FULL:
            sentence, action = _REQUEST_FULL
        elif state is State.SENT:
            sentence, action = (
                "It is on {name}'s device, which has not confirmed that it is decrypted.",
                "If {name} has not accepted your invitation yet, ask them to join.",
            )
        elif state is State.HELD:
            until = utc(row.held_until or 0).strftime("%Y-%m-%d")
            sentence = f"The relay keeps it until {until}; {{name}} has not fetched it."
            action = "Nothing to do: it arrives when {name}'s node runs."
        elif state is State.CARRIED and (row.reason or "").startswith(EXPORTED):
            sentence = "It is in the file {file}, written {when}, until that is imported there."
            action = "Bring the file to {name}. Our own node goes on trying meanwhile."
        elif state is State.CARRIED:
            sentence = "{by} has it and hands it on when they meet {name}'s device."
            action = "Nothing to do: our own node goes on trying."
        elif row.reason == RESTORED:
            sentence, action = _RESTORED
        elif state in _FINAL:
            sentence, action = _FINAL[state]
        else:
            sentence, action = _QUEUED.get(row.reason or "", _UNREACHABLE)
        reason = row.reason or "no reason given"
        carrier = self._core.carrier(row)
        by = "Another member" if carrier is None else self._core.name_of(carrier)
        told = {
            "name": name,
            "reason": reason,
            "by": by,
            "file": reason.removeprefix(EXPORTED),
            "when": utc(row.updated).strftime("%Y-%m-%d %H:%M UTC"),
        }
        return sentence.format(**told), action.format(**told)
