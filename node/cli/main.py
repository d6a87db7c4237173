"""The program `quicnprotochat`: its commands put together, and every end turned into an exit code.

Heavy imports stay inside the commands: help and completion have to be instant.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from node.cli import (
    account,
    backup,
    chat,
    completion,
    demo,
    dht,
    doctor,
    groups,
    messages,
    network,
    parcels,
    passphrase,
    people,
    reach,
    relay_account,
    relays,
)
from node.cli.command import SectionedGroup, common_options
from node.cli.output import Output
from node.cli.state import State, TimedOut
from schemas.errors import Blame, Fault, Unreachable

DONE, FAILED, USAGE, TIMED_OUT, NO_PATH, INTERRUPTED = 0, 1, 2, 3, 4, 130


@click.group(
    cls=SectionedGroup,
    params=common_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`quicnprotochat COMMAND --help` shows an example of each. A KEY is a person's identity "
    "key; a unique prefix, a name or a card does as well.",
)
@click.version_option(package_name="quicnprotochat", prog_name="quicnprotochat")
def cli() -> None:
    """End-to-end encrypted group messaging without a server."""


for _module in (
    account,
    passphrase,
    backup,
    people,
    groups,
    messages,
    parcels,
    chat,
    network,
    reach,
    relays,
    relay_account,
    dht,
    completion,
    demo,
    doctor,
):
    for _command in _module.commands.commands:
        cli.add_command(_command)


def main(argv: Sequence[str] | None = None, state: State | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    state = state or State()
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the life of the process
    try:
        code = cli.main(
            args=arguments, prog_name="quicnprotochat", standalone_mode=False, obj=state
        )
        return code if isinstance(code, int) else DONE
    except click.UsageError as error:
        return _usage(error, state.json or "--json" in arguments)
    except click.ClickException as error:
        fault = Fault("failed", error.format_message(), blame=Blame.CALLER)
        Output(state.json).error(fault)
        return FAILED
    except Fault as fault:
        state.out.error(fault)
        if isinstance(fault, TimedOut):
            return TIMED_OUT
        return NO_PATH if isinstance(fault, Unreachable) else FAILED
    except UnicodeError:
        message = "an argument is not UTF-8 text"
        Output(state.json).error(Fault("not-text", message, blame=Blame.CALLER))
        return USAGE
    except OSError as error:
        # A full disk or a closed pipe behind our output: nothing more can be said there.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"error: {error.strerror or error} (output-failed)", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        if any(thread.name == "node" for thread in threading.enumerate()):
            os._exit(INTERRUPTED)  # interrupted again while the node was ending
        return INTERRUPTED


def _usage(error: click.UsageError, as_json: bool) -> int:
    if as_json:
        hint = f"see `{error.ctx.command_path} --help`" if error.ctx else ""
        message = (
            error.format_message().splitlines()[0] if error.message else "a command is missing"
        )
        Output(True).error(Fault("usage", message, blame=Blame.CALLER, hint=hint))
    else:
        error.show(sys.stderr)
    return USAGE
