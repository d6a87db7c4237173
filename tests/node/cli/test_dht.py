"""A lookup on the terminal: every step of it is seen, and nothing in it steers the terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from node.cli.lookup_tree import LookupTree

KEYS = ("aa" * 32, "bb" * 32)


def event(step: str, **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "event": "dht-lookup",
        "part": "cell 1",
        "step": step,
        "path": 0,
        "device": KEYS[0],
        "address": "192.0.2.7:7000",
        "distance": 250,
        "hops": 1,
        "seconds": 0.25,
        "teller": None,
        "told": 0,
        "code": "",
    }
    return usual | fields


def shown(*events: dict[str, Any]) -> list[str]:
    tree = LookupTree("Bob")
    for each in events:
        tree.step(each)
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(tree.root)
    return console.export_text().splitlines()


def test_each_contact_has_one_line_that_says_what_came_of_asking_it() -> None:
    lines = shown(
        event("asked"),
        event("asked", path=1, device=KEYS[1], seconds=0.25),
        event("answered", seconds=0.3, told=4),
        event("failed", path=1, device=KEYS[1], code="no-answer", seconds=2.0),
        event("asked", device="cc" * 32, hops=2, teller=KEYS[0], distance=240),
        event("found", device="cc" * 32, hops=2, teller=KEYS[0], distance=240, seconds=0.27),
    )
    assert lines[0] == "dht lookup Bob"
    assert [line.strip("├─└│ ") for line in lines[1:]] == [
        "cell 1, path 1",
        "aaaaaaaaaaaa 192.0.2.7:7000  distance 2^250, hop 1  answered in 50 ms, told of 4 more",
        (
            "cccccccccccc 192.0.2.7:7000  distance 2^240, hop 2, told by aaaaaaaaaaaa"
            "  has it, after 20 ms"
        ),
        "cell 1, path 2",
        "bbbbbbbbbbbb 192.0.2.7:7000  distance 2^250, hop 1  no-answer",
    ]


def test_what_strangers_say_is_shown_and_not_obeyed() -> None:
    lines = shown(event("failed", code="\x1b[2Jgone", address="[bold]h[/bold]:1"))
    assert "\\x1b[2Jgone" in lines[-1]
    assert "[bold]h[/bold]:1" in lines[-1]
