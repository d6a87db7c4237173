"""What the commands of `quicnprotochat-relay` share: options, and how a failure is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from relay.config import RelayConfig, WrongFlag
from schemas.errors import Fault
from storage.lock import FolderLock

EXIT_FAILED = 1
EXIT_USAGE = 2

F = TypeVar("F", bound=Callable[..., None])


def with_settings(function: F) -> F:
    """The options of every command that needs the settings of a relay."""
    options = (
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="QUICNPROTOCHAT_CONFIG",
            help="TOML file with settings, named as the flags are (data_dir for --data-dir).",
        ),
        click.option(
            "--data-dir",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of the relay's key and database.  [default: the platform's data folder]",
        ),
        click.option(
            "--db-path",
            type=click.Path(dir_okay=False),
            help="Database file.  [default: relay.db in the data folder]",
        ),
        click.option(
            "--database-url",
            metavar="URL",
            help="PostgreSQL instead of a file; its password is better kept in the environment.",
        ),
        click.option(
            "--metrics",
            metavar="ADDR",
            help="HOST:PORT of /metrics and /health, on loopback.  [default: none]",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object per line on stdout."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@contextmanager
def telling(*, as_json: bool) -> Iterator[None]:
    """A Fault inside the block is told, and ends the process with 1; with 2 when a flag was it."""
    try:
        yield
    except Fault as fault:
        report(fault, as_json=as_json)
        sys.exit(EXIT_USAGE if isinstance(fault, WrongFlag) else EXIT_FAILED)


@contextmanager
def owning(settings: RelayConfig) -> Iterator[None]:
    """No relay runs on these folders for the length of the block."""
    with ExitStack() as stack:
        for folder in settings.folders:
            stack.enter_context(FolderLock(folder))
        yield


def report(fault: Fault, *, as_json: bool) -> None:
    """Say what went wrong and what to do: JSON on stdout, or for people on stderr."""
    if as_json:
        error = {"code": fault.code, "message": fault.message, "hint": fault.hint}
        print(json.dumps({"error": error}), flush=True)
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"error: {fault.message} ({fault.code})", style="red", markup=False)
    if fault.hint:
        console.print(fault.hint, markup=False)
