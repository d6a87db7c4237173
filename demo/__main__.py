"""Runs the story before an audience: a live table, a summary, and an exit status that means it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.processes import StepFailed
from demo.story import Story


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table(title="quicnprotochat: a first conversation", title_justify="left")
    table.add_column("", width=1)
    table.add_column("step")
    table.add_column("what was seen")
    for mark, text, seen in rows:
        table.add_row(mark, text, seen)
    return table


def _perform(story: Story, console: Console) -> bool:
    """Every step in turn, up to the first that fails."""
    rows: list[tuple[str, str, str]] = []
    # A pipe gets plain lines as they happen; only a terminal can be drawn on again.
    live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
    with live or contextlib.nullcontext():
        for step in story.steps():
            rows.append(("…", step.text, ""))
            if live is not None:
                live.update(_table(rows))
            try:
                seen, mark = step.run(), "✓"
                dead = [daemon.name for daemon in story.daemons() if daemon.died]
                if dead:
                    raise StepFailed(f"{', '.join(dead)} died")
            except StepFailed as failure:
                seen, mark = str(failure), "✗"
            rows[-1] = (mark, step.text, seen)
            if live is not None:
                live.update(_table(rows))
            else:
                console.print(f"{mark} {step.text}: {seen}", highlight=False)
            if mark == "✗":
                return False
    return True


def main() -> int:
    console = Console()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quicnprotochat-demo-") as folder:
        story = Story(Path(folder))
        try:
            whole = _perform(story, console)
        except KeyboardInterrupt:
            console.print("interrupted")
            return 130
        finally:
            story.end()
    seconds = time.monotonic() - began
    if whole:
        console.print(f"Every step was verified, in {seconds:.0f} s.", highlight=False)
        return 0
    console.print(f"A step failed after {seconds:.0f} s.", highlight=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
