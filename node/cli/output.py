"""What goes to standard output and standard error: JSON lines for scripts, text for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node.cli.joiners import joins
from schemas.errors import Fault

Fields = Mapping[str, Any]


def clean(text: object) -> str:
    """Text of others on one line: what could steer a terminal is shown, not obeyed.

    What is invisible is shown as well, or one name could pass for another; only joiners stay where
    a script or an emoji needs them.
    """
    whole = str(text)
    if whole.isprintable():
        return whole
    return "".join(
        c if c.isprintable() or joins(whole, at) else f"\\x{ord(c):02x}"
        for at, c in enumerate(whole)
    )


def clean_lines(text: str, indent: str) -> str:
    """As `clean`, with line breaks and tabs kept; later lines are indented."""
    lines = text.replace("\r\n", "\n").expandtabs(4).split("\n")
    return f"\n{indent}".join(clean(line) for line in lines)


def short(key: str | None) -> str:
    """A key as people recognise it; long enough to be given back as a prefix."""
    return "-" if key is None else key[:12]


def _is_terminal(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _advice(fault: Fault) -> str:
    """A rate's own hint is for nodes, which go on by themselves; a command has ended."""
    if not fault.retry_after_s:
        return fault.hint
    again = f"try again in {math.ceil(fault.retry_after_s)} s"
    return again if fault.code == "try-later" or not fault.hint else f"{fault.hint}; {again}"


class Output:
    """Writes results. Under `json`: one object a line on standard output and nothing else there."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def lively(self) -> bool:
        """Whether a person looks on while something goes on."""
        return not self.as_json and _is_terminal(sys.stdout)

    def emit(self, fields: Fields) -> None:
        """One JSON line, flushed; only under `json`."""
        # ASCII alone: no locale can break it, and a terminal that shows it obeys nothing in it.
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """A line for people, flushed; never under `json`."""
        if not self.as_json:
            stream = sys.stdout
            encoding = stream.encoding or "utf-8"
            stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            stream.flush()

    def note(self, text: str) -> None:
        """A line for people on standard error."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def result(self, fields: Fields, text: str) -> None:
        """One result, in the form that was asked for."""
        if self.as_json:
            self.emit(fields)
        else:
            self.say(text)

    def listing(
        self,
        rows: Sequence[Fields],
        columns: Sequence[str],
        cells: Iterable[Sequence[object]],
        *,
        empty: str,
    ) -> None:
        """A list of results: JSON lines, a table on a terminal, tab-separated lines in a pipe."""
        if self.as_json:
            for row in rows:
                self.emit(row)
        elif not rows:
            self.note(empty)
        elif _is_terminal(sys.stdout):
            self._table(columns, cells)
        else:
            for line in cells:
                self.say("\t".join(clean(cell) for cell in line))

    def record(self, fields: Fields, shown: Sequence[tuple[str, object]]) -> None:
        """One result of several named parts."""
        if self.as_json:
            self.emit(fields)
        else:
            width = max(len(name) for name, _ in shown)
            for name, value in shown:
                self.say(f"{name:<{width}}  {clean(value)}")

    def error(self, fault: Fault) -> None:
        """A failure: an object under `json`, else a line with its hint on standard error."""
        hint = _advice(fault)
        if self.as_json:
            error: dict[str, object] = {"code": fault.code, "message": fault.message, "hint": hint}
            if fault.retry_after_s:
                error["retry_after_s"] = math.ceil(fault.retry_after_s)
            self.emit({"error": error})
            return
        text = f"{clean(fault.message)} ({fault.code})"
        if _is_terminal(sys.stderr):
            from rich.console import Console
            from rich.text import Text

            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print(Text.assemble(("error: ", "bold red"), text))
            if hint:
                console.print(Text.assemble(("hint: ", "bold"), clean(hint)))
        else:
            print(f"error: {text}", file=sys.stderr)
            if hint:
                print(f"hint: {clean(hint)}", file=sys.stderr)

    @staticmethod
    def _table(columns: Sequence[str], cells: Iterable[Sequence[object]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for line in cells:
            table.add_row(*(Text(clean(cell)) for cell in line))
        Console(highlight=False).print(table)
