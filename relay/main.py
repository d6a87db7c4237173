"""The command `quicnprotochat-relay`: reads the settings, runs the relay, stops on a signal."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from relay import doctor as doctor_checks
from relay.accounts_command import accounts_command
from relay.audit_command import audit_command
from relay.capacity.command import capacity_command
from relay.cli import EXIT_FAILED, EXIT_USAGE, owning, telling, with_settings
from relay.completion import completion_command
from relay.config import RelayConfig, load_config
from relay.invite_command import invite_command
from relay.moving.command import migrate_command
from relay.readers import ADMISSIONS, LOG_FORMATS, LOG_LEVELS
from relay.server import Relay, open_relay
from relay.stats.command import stats_command
from relay.store.opening import until_there
from relay.store.sqlite.backup import Copied, back_up
from relay.store.sqlite.backup import restore as put_back
from relay.systemd import told_to_systemd
from schemas.errors import Refused
from telemetry import logs
from transport import kj_loop

GC_THRESHOLD = 10_000  # objects made and not freed; a burst of 64 calls makes some thousands


class _Commands(click.Group):
    """Wrong usage is told as JSON, too, where --json was given."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        given = sys.argv[1:] if args is None else list(args)
        try:
            status = super().main(given, **(extra | {"standalone_mode": False}))
        except click.UsageError as error:
            if "--json" in given:
                shown = {"code": "usage", "message": error.format_message(), "hint": "see --help"}
                print(json.dumps({"error": shown}), flush=True)
            else:
                error.show()
            sys.exit(EXIT_USAGE)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(EXIT_FAILED)
        sys.exit(status if isinstance(status, int) else 0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quicnprotochat", prog_name="quicnprotochat-relay")
def main() -> None:
    """A store-and-forward relay: keeps sealed messages for devices that are offline.

    It reads none of them; anybody may run one.

    \b
    Example:
      quicnprotochat-relay run --listen 0.0.0.0:7000
    """


main.add_command(accounts_command)
main.add_command(audit_command)
main.add_command(invite_command)
main.add_command(migrate_command)
main.add_command(capacity_command)
main.add_command(stats_command)
main.add_command(completion_command)

_listen = click.option(
    "--listen", metavar="ADDR", help="HOST:PORT to bind.  [default: 0.0.0.0:7000]"
)
_advertise = click.option(
    "--advertise",
    metavar="ADDR",
    help="HOST:PORT where nodes reach it, behind a NAT or in a container.  [default: where it"
    " listens]",
)
_store = click.option("--store", "store_backend", help="Where mail is kept.  [default: sqlite]")


@main.command()
@with_settings
@_listen
@_advertise
@_store
@click.option("--tls-cert", type=click.Path(dir_okay=False), help="PEM certificate of --tls-key.")
@click.option(
    "--tls-key",
    type=click.Path(dir_okay=False),
    help="PEM Ed25519 key to be known by.  [default: one made in the data folder]",
)
@click.option(
    "--parcel-ttl-s", type=int, help="How long mail is kept, in seconds.  [default: 7 days]"
)
@click.option(
    "--admission",
    type=click.Choice(ADMISSIONS),
    help="Who may have things kept here; `token` is by the setting auth_token."
    "  [default: open, or token where auth_token is set]",
)
@click.option("--mailbox-parcels", type=int, help="Parcels per mailbox.  [default: 1000]")
@click.option("--mailbox-bytes", type=int, help="Bytes per mailbox.  [default: 64 MiB]")
@click.option(
    "--dht/--no-dht", default=None, help="Be a node of the DHT, where others begin.  [default: yes]"
)
@click.option(
    "--dht-bootstrap",
    metavar="ADDRS",
    help="Nodes to begin with, HOST:PORT or HOST:PORT#DEVICE_KEY, with commas.  [default: none]",
)
@click.option(
    "--log-level", type=click.Choice(LOG_LEVELS), help="Logs go to standard error.  [default: info]"
)
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="[default: text]")
def run(config: Path | None, as_json: bool, **flags: object) -> None:
    """Run the relay until Ctrl-C or SIGTERM; a second one ends at once.

    Every setting can be given as QUICNPROTOCHAT_<NAME> or in the file, too; a flag wins over the
    environment, and that over the file. `doctor` lists the limits that can be set.

    \b
    Example:
      quicnprotochat-relay run --listen 0.0.0.0:7000 --data-dir relay-data --json
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        logs.configure(level=settings.log_level, json_lines=settings.log_format == "json")
        asyncio.run(serve(settings, announce_json if as_json else announce))


@main.command()
@with_settings
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(config: Path | None, as_json: bool, file: Path, **flags: object) -> None:
    """Copy the database to FILE, while the relay runs or not; the copy is checked.

    The relay's key (device.seed in the data folder) is not in it: keep that apart, too.

    \b
    Example:
      quicnprotochat-relay backup --data-dir relay-data relay-2026-11-21.db
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        _require_file(settings)
        copied = back_up(settings.database, file.absolute(), key=settings.database_key)
        _tell_copied("Backed up to", copied, as_json=as_json)


@main.command()
@with_settings
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def restore(config: Path | None, as_json: bool, file: Path, **flags: object) -> None:
    """Make the backup FILE the database of a relay that is stopped and has none.

    Its next start jumps ahead with all sequence numbers and drops one-time key packages, since
    both went on after the backup.

    \b
    Example:
      quicnprotochat-relay restore --data-dir relay-data relay-2026-11-21.db
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        _require_file(settings)
        with owning(settings):
            copied = put_back(file.absolute(), settings.database, key=settings.database_key)
        _tell_copied("Restored", copied, as_json=as_json)


@main.command()
@with_settings
@_listen
@_store
def doctor(config: Path | None, as_json: bool, **flags: object) -> None:
    """Check clock, disk, port, database and permissions, and list every limit.

    \b
    Example:
      quicnprotochat-relay doctor --listen 0.0.0.0:7000 --data-dir relay-data
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        found = list(doctor_checks.checks(settings))
        limits = doctor_checks.limits_of(settings)
    if as_json:
        for each in found:
            print(json.dumps(each.to_json()))
        print(json.dumps({"limits": limits}))
    else:
        table = Table("check", "", "detail", "what to do")
        for each in found:
            table.add_row(each.name, "ok" if each.ok else "NOT OK", each.detail, each.fix)
        numbers = Table("limit", "value")
        for name, value in limits.items():
            numbers.add_row(name, f"{value:,}")
        console = Console(soft_wrap=True, highlight=False)
        console.print(table, numbers, soft_wrap=False)
        for each in found:
            if each.name == "address" and each.ok:  # whole, to be given away; a cell cuts it off
                console.print(f"Nodes reach it at {each.detail}", markup=False)
    if not all(each.ok for each in found):
        sys.exit(EXIT_FAILED)


def _require_file(settings: RelayConfig) -> None:
    if settings.database_url is not None:
        raise Refused(
            "not-sqlite",
            "PostgreSQL has programs of its own for backups",
            hint="pg_dump and pg_restore; a relay sees that its data were restored",
        )


def _tell_copied(what: str, copied: Copied, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"file": str(copied.file), "bytes": copied.bytes, "rows": copied.rows}))
    else:
        rows = ", ".join(f"{number:,} {table}" for table, number in copied.rows.items() if number)
        print(f"{what} {copied.file}: {copied.bytes:,} bytes; {rows}.")


async def serve(config: RelayConfig, announce: Callable[[Relay], None]) -> None:
    """Run a relay until the first SIGINT or SIGTERM; SIGHUP has it read its certificate again.

    Raises what `open_relay` raises, and Refused `moved-away` once the database was.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # the second one ends at once

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, on_signal)
    if not await _unless_told(stop, until_there(config)):
        return
    async with kj_loop(), open_relay(config) as relay:
        loop.add_signal_handler(signal.SIGHUP, relay.monitoring.reload)
        # What was loaded so far stays for good, and calls leave no cycles behind: a collector that
        # looks at all of it every few calls takes a tenth of the work.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        announce(relay)
        async with told_to_systemd():
            if relay.membership is None:
                await stop.wait()
            else:
                await _unless_told(stop, relay.membership.until_shut_out())


async def _unless_told(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Waits for it; False: the relay was told to stop. Raises as `work`."""
    waiting = asyncio.create_task(work)
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait({waiting})
        return False
    await waiting
    return True


def announce_json(relay: Relay) -> None:
    line = {
        "event": "ready",
        "listen": str(relay.listen),
        "address": str(relay.address),
        "device": relay.device.hex(),
    }
    if relay.metrics is not None:
        line["metrics"] = str(relay.metrics)
    print(json.dumps(line), flush=True)


def announce(relay: Relay) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"Relay ready on {relay.listen}. Nodes reach it at", markup=False)
    console.print(str(relay.address), style="bold", markup=False)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
