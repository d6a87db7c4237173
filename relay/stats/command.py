"""The command `stats`: live on a terminal, once elsewhere."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from relay.cli import telling, with_settings
from relay.config import load_config
from relay.stats.look import look
from relay.stats.table import table


@click.command("stats")
@with_settings
@click.option(
    "--every",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between two looks.",
)
def stats_command(config: Path | None, as_json: bool, every: float, **flags: object) -> None:
    """Show what the relay holds and does: live on a terminal, else, or with --json, once.

    The store is that of the folder that the relay runs with: give the same --data-dir. How the
    relay is, who is here, calls and refusals are known with --metrics (or its setting) only.

    \b
    Example:
      quicnprotochat-relay stats --data-dir relay-data --metrics 127.0.0.1:9100
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        now = look(settings)
        if as_json:
            print(json.dumps(now.to_json()))
            return
        if not now.answered:
            print(
                f"No relay answers at {settings.metrics}: this is what its store holds, no more.",
                file=sys.stderr,
            )
        console = Console(highlight=False)
        if not console.is_terminal:
            console.print(table(now))
            return
        looked = time.monotonic()
        shown = Live(table(now), console=console, auto_refresh=False)
        with suppress(KeyboardInterrupt), shown:
            while True:
                time.sleep(every)
                before, now = now, look(settings)
                last, looked = looked, time.monotonic()
                shown.update(table(now, before, looked - last), refresh=True)
