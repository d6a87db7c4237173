"""Commands about your account at a relay: made, logged in to, its devices, its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli import relays
from node.cli.command import Commands
from node.cli.output import clean, short
from node.cli.state import State
from schemas.errors import Blame, Fault, Refused

if TYPE_CHECKING:
    from node.api.relay_shapes import RelayAccount

commands = Commands("Network")

_GUESSER: Final = "whoever rules the relay"
_TOKEN_BYTES: Final = 4096

_relay = click.option(
    "--relay",
    metavar="RELAY",
    shell_complete=relays.complete,
    help="Which relay: HOST:PORT#DEVICE_KEY, or one of yours. [default: your first]",
)
_password = click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The account's password; asked for by default.",
)


@commands.add(
    "register-user",
    example="quicnprotochat register-user alice --relay relay.example:7000#DEVICE_KEY "
    "--invite invite.txt",
)
@click.argument("name")
@_relay
@click.option(
    "--invite",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What the relay's operator gave you, in a file; - reads it from standard input.",
)
@_password
def register_user(
    state: State, name: str, relay: str | None, invite: Path | None, password_file: Path | None
) -> None:
    """Make an account called NAME at a relay, which then lets this device in.

    The relay never sees the password. It is needed for `login`, and by nothing else: this device
    is let in by its key until you revoke it.
    """
    from node.api import operations as op
    from node.api.relay_shapes import RegisterUser

    token = "" if invite is None else _read(invite)
    secret = _ask(state, password_file, name, new=True)
    with state.session() as session:
        request = RegisterUser(name, secret, relay or "", token)
        _show(state, session.call(op.REGISTER_USER, request))


@commands.add("login", example="quicnprotochat login alice")
@click.argument("name")
@_relay
@_password
def login(state: State, name: str, relay: str | None, password_file: Path | None) -> None:
    """Log in to your account NAME at a relay, for a day; this device is let in from now on."""
    from node.api import operations as op
    from node.api.relay_shapes import Login

    secret = _ask(state, password_file, name, new=False)
    with state.session() as session:
        _show(state, session.call(op.LOGIN, Login(name, secret, relay or "")))


@commands.add_group(
    "devices", example="quicnprotochat devices\nquicnprotochat devices revoke 3f9a20"
)
@_relay
def devices(ctx: click.Context, relay: str | None) -> None:
    """The devices of your account at a relay; alone, they are shown. Needs a login."""
    if ctx.invoked_subcommand is not None:
        return
    from node.api import operations as op
    from node.api.relay_shapes import AtRelay

    state: State = ctx.obj
    with state.session() as session:
        rows = session.call(op.ACCOUNT_DEVICES, AtRelay(relay or ""))
    state.out.listing(
        [row.to_json() for row in rows],
        ("NAME", "DEVICE", "SINCE", ""),
        (
            (row.name or "-", row.device, row.linked_at, "this one" if row.current else "")
            for row in rows
        ),
        empty="the relay knows no device of this account",
    )


@devices.command("revoke", example="quicnprotochat devices revoke 3f9a20")
@click.argument("device")
@_relay
@click.pass_obj
def revoke(state: State, device: str, relay: str | None) -> None:
    """Shut DEVICE out of the relay, which forgets what it kept for it. Needs a login."""
    from node.api import operations as op
    from node.api.relay_shapes import RevokeDevice

    with state.session() as session:
        gone = session.call(op.REVOKE_DEVICE, RevokeDevice(device, relay or ""))
    state.out.result(gone.to_json(), f"the relay lets {short(gone.device)} in no more")


@commands.add("delete-account", example="quicnprotochat delete-account --yes")
@_relay
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_account(state: State, relay: str | None, yes: bool) -> None:
    """Delete your account at a relay, with your mail and all else that it keeps. Needs a login.

    Your identity, contacts, groups and messages are in this home, and stay.
    """
    from node.api import operations as op
    from node.api.relay_shapes import AtRelay

    if not yes:
        question = "Delete the account, and what waits for you there?"
        if state.json or not click.confirm(question, err=True):
            raise Refused("not-confirmed", "the account is kept", hint="give --yes, or answer y")
    with state.session() as session:
        gone = session.call(op.DELETE_ACCOUNT, AtRelay(relay or ""))
    state.out.result(gone.to_json(), f"the account {clean(gone.account)} is deleted")


@relays.relays.command("token", example="quicnprotochat relays token relay.example:7000 token.txt")
@click.argument("relay", shell_complete=relays.complete)
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def relays_token(state: State, relay: str, file: Path) -> None:
    """Show a RELAY of yours the token in FILE, which its operator gave you; - reads it from
    standard input, an empty one is none any more."""
    from node.api import operations as op
    from node.api.relay_shapes import SetRelayToken

    token = _read(file)
    with state.session() as session:
        relays.show(state, session.call(op.SET_RELAY_TOKEN, SetRelayToken(relay, token)))


def _ask(state: State, file: Path | None, name: str, *, new: bool) -> str:
    """The password. Raises as Secrets.obtain."""
    what = f"{'New password' if new else 'Password'} for the account {clean(name)}"
    try:
        return state.secrets.obtain(file, what, new=new, guesser=_GUESSER).decode()
    except Refused as fault:
        if fault.code != "passphrase-needed":
            raise
        raise Refused("password-needed", fault.message, hint="give --password-file FILE") from None


def _read(file: Path) -> str:
    """A secret that somebody gave us. Raises Fault `cannot-read-file`."""
    try:
        with click.open_file(str(file), "rb") as opened:
            data: bytes = opened.read(_TOKEN_BYTES)
            return data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(
            "cannot-read-file",
            f"{str(file)!r} cannot be read: {getattr(error, 'strerror', None) or 'not text'}",
            blame=Blame.CALLER,
            hint="check the path and its permissions",
        ) from None


def _show(state: State, account: RelayAccount) -> None:
    state.out.record(
        account.to_json(),
        [
            ("account", account.account),
            ("relay", account.relay),
            ("logged in until", account.expires_at),
        ],
    )
