"""The command `migrate`: to this program's version, or from one database to another."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import click

from relay.cli import owning, telling, with_settings
from relay.config import DATABASE_FILE, RelayConfig, load_config
from relay.moving.move import Moved, move
from relay.moving.side import OpenedSource, OpenedTarget
from relay.moving.sqlite_side import sqlite_source, sqlite_target, take_back
from relay.store.opening import driver
from relay.store.postgres.url import check_url
from relay.store.sqlite.database import MIGRATIONS
from schemas.errors import Blame, Fault
from storage.sqlite import database_version, migrate, open_database

_SQLITE = "sqlite:"
_POSTGRES = "postgres"
_SECRET = ("password", "sslpassword")
_TELL_EVERY_S = 1.0


class _Place(click.ParamType[Path | str]):
    """`sqlite:` and a data folder or database file; PostgreSQL's URL, or `postgres`: the one of the
    settings, where a password is safe."""

    name = "DATABASE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        text = str(value)
        if text.startswith(_SQLITE):
            path = Path(text.removeprefix(_SQLITE)).expanduser().absolute()
            return path if path.suffix == ".db" else path / DATABASE_FILE
        try:
            if text != _POSTGRES:
                check_url(text)
        except ValueError as error:
            self.fail(f"write sqlite:FOLDER, or {error}".replace("or write", "or"), param, ctx)
        return text


@click.command("migrate")
@with_settings
@click.option(
    "--from", "source", type=_Place(), help="Where all data come from; it stays as it is."
)
@click.option("--to", "target", type=_Place(), help="Where they go: an empty database.")
@click.option(
    "--moved-back",
    is_flag=True,
    help="The relay was moved away from here, and is to run here again.",
)
def migrate_command(
    config: Path | None,
    as_json: bool,
    source: Path | str | None,
    target: Path | str | None,
    moved_back: bool,
    **flags: object,
) -> None:
    """Move a stopped relay to another database: mail, accounts, its key, everything.

    DATABASE is sqlite:FOLDER (or FILE.db), postgresql://USER@HOST/NAME, or postgres for the one of
    the settings (database_url), where a password belongs. Nodes notice nothing: key and address
    stay. The old database is marked, and no relay starts on it any more.

    Without --from and --to: bring the database to this program's version, as `run` does by itself;
    or, with --moved-back, take that mark off. What came after the move is not in it, so numbers
    jump ahead and one-time key packages go, as after `restore`.

    \b
    Example:
      quicnprotochat-relay migrate --from sqlite:relay-data --to postgresql://relay@/relay
    """
    if (source is None) != (target is None):
        raise click.UsageError("--from and --to go together")
    if moved_back and source is not None:
        raise click.UsageError("--moved-back is of the database that the settings name")
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        if moved_back:
            _take_back(settings)
            print(json.dumps({"moved_back": True}) if as_json else "This relay can be run again.")
            return
        if source is None or target is None:
            number = _bring_up_to_date(settings)
            shown = json.dumps({"version": number})
            print(shown if as_json else f"The database has version {number}.")
            return
        opened = _source(source, settings), _target(target, settings)
        moving = move(*opened, _Progress(as_json=as_json), now=int(time.time()))
        tell(asyncio.run(moving), target, as_json=as_json)


def _bring_up_to_date(settings: RelayConfig) -> int:
    """The database that `run` would use; its version. Raises Fault `no-file`."""
    if settings.database_url is not None:
        with driver():
            from relay.store.postgres.inspection import bring_up_to_date
        return bring_up_to_date(settings.database_url)
    if not settings.database.exists():
        raise Fault("no-file", f"there is no database at {str(settings.database)!r}",
                    blame=Blame.CALLER, hint="give the settings that `run` has")  # fmt: skip
    file, key = settings.database, settings.database_key
    with owning(settings), closing(open_database(file, key=key)) as connection:
        migrate(connection, MIGRATIONS)
        return database_version(connection)


def _take_back(settings: RelayConfig) -> None:
    if settings.database_url is None:
        take_back(settings.database, settings.database_key)
        return
    with driver():
        from relay.moving.postgres_side import take_back as take_back_postgres
    asyncio.run(take_back_postgres(settings.database_url))


def _source(place: Path | str, settings: RelayConfig) -> OpenedSource:
    if isinstance(place, Path):
        return sqlite_source(place, settings.database_key)
    # An extra of the distribution: without it, there is no driver.
    from relay.moving.postgres_side import postgres_source

    return postgres_source(_url(place, settings))


def _target(place: Path | str, settings: RelayConfig) -> OpenedTarget:
    if isinstance(place, Path):
        return sqlite_target(place, settings.database_key)
    from relay.moving.postgres_side import postgres_target  # as above

    return postgres_target(_url(place, settings))


def _url(place: str, settings: RelayConfig) -> str:
    if place != _POSTGRES:
        return place
    if settings.database_url is None:
        raise click.UsageError("postgres means database_url of the settings, which is not set")
    return settings.database_url


class _Progress:
    """Tells now and then: on standard output as JSON, else on standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._next = time.monotonic() + _TELL_EVERY_S

    def __call__(self, table: str, done: int, number: int) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _TELL_EVERY_S
        if self._as_json:
            print(json.dumps({"table": table, "rows": done, "of": number}), flush=True)
        else:
            print(f"{table}: {done:,} of {number:,} rows", file=sys.stderr)


def tell(moved: Moved, target: Path | str, *, as_json: bool) -> None:
    """What was done, and what is to be done next."""
    if as_json:
        print(json.dumps({"moved": moved.rows, "key": moved.keyed, "marked": moved.marked}))
        return
    rows = ", ".join(f"{number:,} {table}" for table, number in moved.rows.items() if number)
    print(f"Moved and compared: {rows or 'nothing, there was nothing'}.")
    if moved.keyed:
        print("The relay's key came along: its address stays.")
    else:
        print("The relay's key was not there: give the relay the same tls_key as before.")
    if moved.marked:
        print("The old database is marked: no relay starts on it any more.")
    else:
        print("The old database could NOT be marked: do not start a relay on it again.")
    print(f"Next: quicnprotochat-relay run {_flags(target)}")


def _flags(place: Path | str) -> str:
    """With which `run` finds it; no password."""
    if isinstance(place, Path):
        folder = f"--data-dir {shlex.quote(str(place.parent))}"
        named = place.name == DATABASE_FILE
        return folder if named else f"{folder} --db-path {shlex.quote(str(place))}"
    if place == _POSTGRES:
        return "with the same settings"
    parts = urlsplit(place)
    user, at, host = parts.netloc.rpartition("@")
    query = [pair for pair in parts.query.split("&") if not pair.startswith(_SECRET)]
    shown = parts._replace(netloc=user.partition(":")[0] + at + host, query="&".join(query))
    return f"--database-url {shlex.quote(urlunsplit(shown))}"
