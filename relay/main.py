"""The command `quicnprotochat-relay`: reads the settings, runs the relay, stops on a signal."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from relay.config import LOG_LEVELS, RelayConfig, load_config
from relay.server import Relay, open_relay
from schemas.errors import Fault
from transport import kj_loop

EXIT_FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quicnprotochat", prog_name="quicnprotochat-relay")
def main() -> None:
    """A store-and-forward relay: keeps sealed messages for devices that are offline.

    It reads none of them; anybody may run one.

    \b
    Example:
      quicnprotochat-relay run --listen 0.0.0.0:7000
    """


@main.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="QUICNPROTOCHAT_CONFIG",
    help="TOML file with settings, named as the flags are (data_dir for --data-dir).",
)
@click.option("--listen", metavar="ADDR", help="HOST:PORT to bind.  [default: 0.0.0.0:7000]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the relay's key and database.  [default: the platform's data folder]",
)
@click.option("--store", "store_backend", help="Where mail is kept.  [default: sqlite]")
@click.option(
    "--db-path",
    type=click.Path(dir_okay=False),
    help="Database file.  [default: relay.db in the data folder]",
)
@click.option(
    "--parcel-ttl-s", type=int, help="How long mail is kept, in seconds.  [default: 7 days]"
)
@click.option("--mailbox-parcels", type=int, help="Parcels per mailbox.  [default: 1000]")
@click.option("--mailbox-bytes", type=int, help="Bytes per mailbox.  [default: 64 MiB]")
@click.option(
    "--log-level", type=click.Choice(LOG_LEVELS), help="Logs go to standard error.  [default: info]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line on stdout.")
def run(config: Path | None, as_json: bool, **flags: object) -> None:
    """Run the relay until Ctrl-C or SIGTERM; a second one ends at once.

    Every flag can be given as QUICNPROTOCHAT_<NAME> or in the file, too; a flag wins over the
    environment, and that over the file.

    \b
    Example:
      quicnprotochat-relay run --listen 0.0.0.0:7000 --data-dir relay-data --json
    """
    try:
        settings = load_config(flags, os.environ, config)
        logging.basicConfig(
            stream=sys.stderr,
            level=settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        asyncio.run(serve(settings, announce_json if as_json else announce))
    except Fault as fault:
        report(fault, as_json=as_json)
        sys.exit(EXIT_FAILED)


async def serve(config: RelayConfig, announce: Callable[[Relay], None]) -> None:
    """Run a relay until the first SIGINT or SIGTERM. Raises what `open_relay` raises."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # the second one ends at once

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, on_signal)
    async with kj_loop(), open_relay(config) as relay:
        announce(relay)
        await stop.wait()


def announce_json(relay: Relay) -> None:
    line = {
        "event": "ready",
        "listen": str(relay.listen),
        "address": str(relay.address),
        "device": relay.device.hex(),
    }
    print(json.dumps(line), flush=True)


def announce(relay: Relay) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"Relay ready on {relay.listen}. Nodes reach it at", markup=False)
    console.print(str(relay.address), style="bold", markup=False)
    sys.stdout.flush()


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


if __name__ == "__main__":
    main()
