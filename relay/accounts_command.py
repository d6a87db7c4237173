"""The command `accounts`: who has one at a relay, and an end to one or to a device of it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.cli import telling, with_settings
from relay.config import RelayConfig, load_config
from relay.store.accounts import Account, AccountEntry, AccountStore, no_account
from relay.store.opening import accounts_beside
from schemas.accounts import account_name
from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.times import utc

_SHORTEST: Final = 6  # digits of a key that are taken for it
_SHOWN: Final = 12


@click.command("accounts")
@with_settings
@click.option("--delete", "deleted", metavar="NAME", help="Delete this account, with all of it.")
@click.option("--revoke", metavar="NAME DEVICE", nargs=2, help="Shut a device of this account out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def accounts_command(
    config: Path | None,
    as_json: bool,
    deleted: str | None,
    revoke: tuple[str, str] | None,
    yes: bool,
    **flags: object,
) -> None:
    """Show all accounts and their devices; or end one of them.

    It works while the relay runs, whose processes hang up on such devices within a minute and let
    none of them in anew. DEVICE is a device key, or 6 digits or more with which it begins.

    \b
    Examples:
      quicnprotochat-relay accounts --data-dir relay-data
      quicnprotochat-relay accounts --data-dir relay-data --revoke ann 808c55
      quicnprotochat-relay accounts --data-dir relay-data --delete ann --yes
    """
    if deleted is not None and revoke is not None:
        raise click.UsageError("--delete and --revoke do not go together")
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        if deleted is not None:
            name = account_name(deleted)
            if not yes:
                asyncio.run(_require(settings, name))
                _confirm(name, as_json=as_json)
            devices = asyncio.run(_delete(settings, name))
            gone = {"deleted": name, "devices": [device.hex() for device in devices]}
            print(json.dumps(gone) if as_json else f"Deleted {name} and all that was kept for it.")
        elif revoke is not None:
            name = account_name(revoke[0])
            device = asyncio.run(_revoke(settings, name, revoke[1]))
            gone = {"revoked": device.hex(), "name": name}
            print(json.dumps(gone) if as_json else f"Revoked {device.hex()[:_SHOWN]} of {name}.")
        else:
            _show(asyncio.run(_entries(settings)), as_json=as_json)


def _confirm(name: str, *, as_json: bool) -> None:
    """Raises Refused `not-confirmed`."""
    question = f"Delete the account {name}, and the mail that waits for its devices?"
    try:
        agreed = not as_json and click.confirm(question, err=True)
    except click.Abort:  # nobody is there to answer
        agreed = False
        click.echo(err=True)  # what follows has a line of its own
    if not agreed:
        raise Refused("not-confirmed", "nothing was deleted", hint="give --yes, or answer y")


async def _entries(settings: RelayConfig) -> list[AccountEntry]:
    async with accounts_beside(settings) as accounts:
        return await accounts.entries()


async def _require(settings: RelayConfig, name: str) -> None:
    """Raises Refused `no-account`."""
    async with accounts_beside(settings) as accounts:
        await _account(accounts, name)


async def _account(accounts: AccountStore, name: str) -> Account:
    """Raises Refused `no-account`."""
    account = await accounts.account(name)
    if account is None:
        raise no_account()
    return account


async def _delete(settings: RelayConfig, name: str) -> list[DeviceKey]:
    """The devices that were in it. Raises Refused `no-account`."""
    async with accounts_beside(settings) as accounts:
        account = await _account(accounts, name)
        now = int(time.time())
        return list(await accounts.delete(account.identity, now=now, by_operator=True))


async def _revoke(settings: RelayConfig, name: str, text: str) -> DeviceKey:
    """The device that `text` means. Raises Refused `no-account`, `no-such-device`."""
    async with accounts_beside(settings) as accounts:
        account = await _account(accounts, name)
        digits = text.lower()
        found = [
            each.device
            for each in await accounts.devices(account.identity)
            if len(digits) >= _SHORTEST and each.device.hex().startswith(digits)
        ]
        now = int(time.time())
        if len(found) != 1 or not await accounts.revoke_device(
            account.identity, found[0], now=now, by_operator=True
        ):
            raise Refused(
                "no-such-device",
                f"{name} has no device that {text[:80]!r} means",
                hint=f"see `accounts`; give its key, or {_SHORTEST} digits or more of it",
            )
        return found[0]


def _show(found: list[AccountEntry], *, as_json: bool) -> None:
    if as_json:
        for entry in found:
            print(json.dumps(_fields(entry)))
        return
    table = Table("account", "made", "last login", "invite", "device", "")
    for entry in found:
        made = f"{utc(entry.made):%Y-%m-%d}"
        owner = (entry.name, made, _time(entry.logged_in) or "-", entry.invite or "-")
        for each in entry.devices:
            table.add_row(*owner, each.device.hex()[:_SHOWN], escape(_plain(each.name)))
            owner = ("", "", "", "")
        if not entry.devices:
            table.add_row(*owner, "-", "")
    Console().print(table)


def _fields(entry: AccountEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "identity": entry.identity.hex(),
        "made": _time(entry.made),
        "last_login": _time(entry.logged_in),
        "invite": entry.invite,
        "devices": [
            {"device": each.device.hex(), "name": each.name, "registered": _time(each.registered)}
            for each in entry.devices
        ],
    }


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else f"{utc(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _plain(name: str) -> str:
    """What could steer a terminal is shown, not obeyed: its owner chose it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
