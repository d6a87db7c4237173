"""`demo-group`: the whole flow in one command, between temporary nodes."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.command import Commands
from node.cli.state import State
from schemas.errors import Blame, Fault

if TYPE_CHECKING:
    from node.demo.story import Story

commands = Commands("Your node")


@commands.add("demo-group", example="quicnprotochat demo-group")
def demo_group(state: State) -> None:
    """Show it all between temporary nodes: a relay, three people, one of them killed.

    Each step is done by the real commands in processes of their own and verified before it counts.
    Your own home is not touched.
    """
    from node.demo.story import Story

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quicnprotochat-demo-") as folder:
        story = Story(Path(folder))
        try:
            perform = _with_lines if state.json or not sys.stdout.isatty() else _with_table
            failed = perform(state, story)
        finally:
            story.end()
    if failed is not None:
        raise Fault("step-failed", f"a step failed: {failed}", blame=Blame.ENVIRONMENT)
    state.out.say(f"Every step was verified, in {time.monotonic() - began:.0f} s.")


def _with_lines(state: State, story: Story) -> str | None:
    """A line a step, as it happens; the text of the one that failed."""
    for step in story.steps():
        ok, seen = story.perform(step)
        fields = {"step": step.text, "ok": ok, "seen": seen}
        state.out.result(fields, f"{'✓' if ok else '✗'} {step.text}: {seen}")
        if not ok:
            return step.text
    return None


def _with_table(_: State, story: Story) -> str | None:
    """The same, drawn."""
    from rich.live import Live
    from rich.table import Table

    rows: list[tuple[str, str, str]] = []

    def table() -> Table:
        drawn = Table(title="quicnprotochat: a first conversation", title_justify="left")
        drawn.add_column("", width=1)
        drawn.add_column("step")
        drawn.add_column("what was seen")
        for row in rows:
            drawn.add_row(*row)
        return drawn

    with Live(refresh_per_second=8) as live:
        for step in story.steps():
            rows.append(("…", step.text, ""))
            live.update(table())
            ok, seen = story.perform(step)
            rows[-1] = ("✓" if ok else "✗", step.text, seen)
            live.update(table())
            if not ok:
                return step.text
    return None
