"""The command `invite`: tokens with which people make an account at a relay of their operator's."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from relay.address import whereabouts
from relay.cli import telling, with_settings
from relay.config import RelayConfig, WrongFlag, load_config
from relay.store.accounts import INVITE_ID, Invite
from relay.store.opening import accounts_beside
from schemas.accounts import ACCESS_TOKEN
from schemas.errors import Fault, Refused
from schemas.times import LAST_S

MAX_USES: Final = 1_000_000
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN: Final = re.compile(r"(\d{1,5})([mhdw])")


@click.command("invite")
@with_settings
@click.option("--uses", default=1, show_default=True, type=click.IntRange(1, MAX_USES),
              help="Accounts that can be made with it.")  # fmt: skip
@click.option("--expires", default="30d", show_default=True, metavar="WHEN",
              help="A span (12h, 30d, 4w) or a day (2026-12-31, UTC).")  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="Show all invites, and who came by them.")
@click.option("--revoke", metavar="ID", help="End the invite of this id; accounts stay.")
def invite_command(
    config: Path | None,
    as_json: bool,
    uses: int,
    expires: str,
    listing: bool,
    revoke: str | None,
    **flags: object,
) -> None:
    """Make an invite: who has it can register an account while `admission` is `invite`.

    It works while the relay runs. The invite is shown once; the relay keeps a hash of it.

    \b
    Examples:
      quicnprotochat-relay invite --data-dir relay-data --uses 30 --expires 4w
      quicnprotochat-relay invite --data-dir relay-data --list
    """
    if listing and revoke is not None:
        raise click.UsageError("--list and --revoke do not go together")
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        now = int(time.time())
        if listing:
            _show(asyncio.run(_invites(settings)), now, as_json=as_json)
        elif revoke is not None:
            asyncio.run(_revoke(settings, revoke.lower(), now))
            print(json.dumps({"revoked": revoke.lower()}) if as_json else f"Revoked {revoke}.")
        else:
            secret, made = asyncio.run(_make(settings, uses, read_expiry(expires, now), now))
            _tell(secret, made, _address(settings), as_json=as_json)


def read_expiry(text: str, now: int) -> int:
    """Unix seconds of a span from now, or of the end of a day. Raises WrongFlag `bad-expiry`."""
    span = _SPAN.fullmatch(text)
    if span is not None:
        until = now + int(span[1]) * _UNITS[span[2]]
    else:
        try:
            day = datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
        except ValueError:
            until = 0
        else:
            until = int(day.timestamp()) + 86400
    if not now < until <= LAST_S:
        raise WrongFlag(
            "bad-expiry",
            f"--expires cannot be {text[:40]!r}",
            hint="write a span (12h, 30d, 4w), or a day to come (2026-12-31)",
        )
    return until


async def _make(settings: RelayConfig, uses: int, expires: int, now: int) -> tuple[str, Invite]:
    secret = secrets.token_bytes(ACCESS_TOKEN)
    async with accounts_beside(settings) as accounts:
        hashed = hashlib.sha256(secret).digest()
        made = await accounts.make_invite(hashed, uses=uses, expires=expires, now=now)
    return secret.hex(), made


async def _invites(settings: RelayConfig) -> list[Invite]:
    async with accounts_beside(settings) as accounts:
        return await accounts.invites()


async def _revoke(settings: RelayConfig, id: str, now: int) -> None:
    async with accounts_beside(settings) as accounts:
        if not await accounts.revoke_invite(id[:INVITE_ID], now=now):
            raise Refused("no-such-invite", "there is no invite of this id", hint="see --list")


def _address(settings: RelayConfig) -> str | None:
    """What nodes are given; None: it cannot be known here, and the invite is good all the same."""
    try:
        return str(whereabouts(settings).address)
    except Fault:
        return None


def _tell(secret: str, made: Invite, address: str | None, *, as_json: bool) -> None:
    if as_json:
        shown = {"invite": secret, "id": made.id, "uses": made.uses, "expires": _time(made.expires)}
        print(json.dumps(shown | {"address": address}))
        return
    console = Console(soft_wrap=True, highlight=False)
    times = "once" if made.uses == 1 else f"{made.uses} times"
    console.print(f"Invite {made.id}, good {times} until {_time(made.expires)}:", markup=False)
    console.print(secret, style="bold", markup=False)
    where = address or "HOST:PORT#DEVICE_KEY"
    console.print("Who has it in a file, invite.txt, makes an account by", markup=False)
    console.print(
        f"quicnprotochat register-user NAME --relay '{where}' --invite invite.txt", markup=False
    )
    if address is None:
        console.print("where `run` shows what to write behind --relay.", markup=False)


def _show(found: list[Invite], now: int, *, as_json: bool) -> None:
    if as_json:
        for each in found:
            print(
                json.dumps(
                    {
                        "id": each.id,
                        "uses": each.uses,
                        "used": each.used,
                        "holds": each.used < each.uses and now < each.expires,
                        "made": _time(each.made),
                        "expires": _time(each.expires),
                        "accounts": each.names,
                    }
                )
            )
        return
    table = Table("id", "used", "of", "expires", "accounts")
    for each in found:
        table.add_row(each.id, str(each.used), str(each.uses), _time(each.expires),
                      " ".join(each.names))  # fmt: skip
    Console().print(table)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
