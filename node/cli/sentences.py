"""Events in words, for people who watch a node run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from node.cli.output import Output, clean, short

Event = Mapping[str, Any]

OF_BRANCHES: Final = frozenset({"group-split", "group-healed", "group-waits", "equivocation"})
"""Kinds of events that are told beside a group's messages."""


def sentence(event: Event) -> str | None:
    """One line about an event; None for what only scripts need."""
    words = _WORDS.get(str(event["event"]))
    return words(event) if words is not None else str(event["event"])


def tell(out: Output, event: Event) -> None:
    """An event beside messages: a line of JSON, or for people one on standard error."""
    if out.as_json:
        out.emit(event)
    else:
        out.note(f"-- {clean(sentence(event) or '')}")


def _message(event: Event) -> str:
    where = f" in {event['name']}" if event.get("name") else ""
    return f"{event['sender_name']} wrote{where}"


def _ledger(event: Event) -> str | None:
    what, name = f"message {short(event['message'])}", event["name"]
    match event["state"]:
        case "delivered":
            return f"{what}: delivered to {name}{_way(event)}"
        case "read":
            return f"{what}: read by {name}"
        case "held":
            return f"{what}: a relay keeps it for {name}"
        case "carried":
            return f"{what}: {event['by_name']} has it, and hands it on to {name}"
        case "queued" | "expired" | "refused" as state:
            return f"{what}: {state} for {name}, {event['reason']}"
    return None


def _way(event: Event) -> str:
    ways = {"direct": ", directly", "relay": ", by relay", "carried": ", by another member"}
    return ways.get(event.get("path") or "", "")


def _members(event: Event) -> str:
    changes = [
        f"{word} {', '.join(event[key])}"
        for key, word in (("added", "added"), ("removed", "removed"))
        if event[key]
    ]
    done = " and ".join(changes) or "renewed their key"
    return f"{event['by']} {done} in {event['name'] or 'a conversation'} (epoch {event['epoch']})"


def _group(event: Event) -> str:
    return event.get("name") or "a conversation"


def _request(event: Event) -> str:
    what = f"invites you to {event['name']}" if event.get("name") else "writes to you"
    return f"{event['inviter_name']} {what}: quicnprotochat join {event['group'][:8]}"


def _peer(event: Event) -> str:
    name = event["name"] or f"device {short(event['device'])}"
    return str(name) if event["identity"] else f"{name} (not a contact)"


def _path(event: Event) -> str | None:
    if event["identity"] is None:
        return None  # a stranger's
    if event["path"] is None:
        return f"no link with {_peer(event)} any more"
    return f"linked with {_peer(event)} {_KINDS[event['kind']]} ({event['address']})"


_KINDS: Final = {
    "lan": "over the local network",
    "public": "over the internet",
    "punched": "through a NAT",
}

_WORDS: dict[str, Callable[[Event], str | None]] = {
    "message": _message,
    "ledger": _ledger,
    "members": _members,
    "request": _request,
    "joined": lambda e: f"joined {e['name'] or 'a conversation with ' + e['inviter_name']}",
    "left": lambda e: f"left {e['name']}",
    "removed": lambda e: f"you were removed from {e['name']}",
    "refused": lambda e: (
        f"{e['member']}'s device refused the invitation to {e['name'] or 'talk'}: {e['reason']}"
    ),
    "group-split": lambda e: f"{_group(e)} is split: {e['detail']}",
    "group-healed": lambda e: f"{_group(e)}: {e['detail']}",
    "group-waits": lambda e: f"{_group(e)} waits: {e['detail']}",
    "equivocation": lambda e: f"WARNING in {_group(e)}: {e['detail']}",
    "contact-changed": lambda e: f"news of {e['name']}: how to reach them, or their keys",
    "mailbox-full": lambda e: (
        f"your mailbox at {e['relay'].partition('#')[0]} was full, and messages for you were "
        "refused there: their senders try again"
    ),
    "relay-refuses": lambda e: (
        f"your relay {e['relay'].partition('#')[0]} refuses this node: {e['reason']}"
        + (f"; {e['hint']}" if e["hint"] else "")
    ),
    "relay-left": lambda e: f"{e['relay'].partition('#')[0]} is not read any more: you left it",
    "port-mapping": lambda e: (
        f"your router forwards {e['address']} to this node ({e['protocol']})"
        if e["address"]
        else "your router forwards no port to this node any more"
    ),
    "path-changed": _path,
    "dht-lookup": lambda e: None,  # steps of one, drawn by `dht lookup`
    "network-changed": lambda e: "this machine is on another network: every path is tried anew",
    "peer-appeared": lambda e: f"{_peer(e)} is on the local network",
    "peer-changed": lambda e: None,
    "peer-gone": lambda e: f"{_peer(e)} is no longer on the local network",
    "lagged": lambda e: "some events were left out: this terminal is too slow",
}
