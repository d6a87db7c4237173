"""A lookup in the DHT as a tree that grows on the terminal: its paths, and whom each asked."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Self

from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from node.cli.output import clean, short

_STYLES: Final = {
    "asked": "dim",
    "answered": "",
    "failed": "red",
    "found": "bold green",
}
_PICTURES_PER_S: Final = 8.0


class LookupTree:
    """`step` takes the fields of a `dht-lookup` event. Use as a context manager."""

    def __init__(self, target: str) -> None:
        self.root = Tree(Text(f"dht lookup {clean(target)}", style="bold"))
        self._paths: dict[tuple[str, int], Tree] = {}
        self._asked: dict[tuple[str, int, str], tuple[Tree, float]] = {}
        self._live = Live(self.root, refresh_per_second=_PICTURES_PER_S)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def step(self, event: dict[str, Any]) -> None:
        part, number, device = event["part"], event["path"], event["device"]
        path = self._paths.get((part, number))
        if path is None:
            path = self._paths[part, number] = self.root.add(f"{part}, path {number + 1}")
        known = self._asked.get((part, number, device))
        if known is None:
            known = (path.add(""), event["seconds"])
            self._asked[part, number, device] = known
        branch, began = known
        branch.label = line(event, event["seconds"] - began)


def line(event: dict[str, Any], took_s: float) -> Text:
    """One contact: who, how near to what is looked for, and what came of asking."""
    step = event["step"]
    said = step
    if step == "answered":
        said = f"answered in {took_s * 1000:.0f} ms, told of {event['told']} more"
    elif step == "failed":
        said = clean(event["code"])
    elif step == "found":
        said = f"has it, after {took_s * 1000:.0f} ms"
    teller = "" if event["teller"] is None else f", told by {short(event['teller'])}"
    head = f"{short(event['device'])} {clean(event['address'])}"
    where = f"distance 2^{event['distance']}, hop {event['hops']}{teller}"
    return Text.assemble(head, (f"  {where}  ", "dim"), (said, _STYLES.get(step, "")))
