"""`passphrase set`, `change`, `remove`: encryption of the home at rest. No node may run."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.command import Commands
from node.cli.state import State

commands = Commands("Your node")


@commands.add_group("passphrase", example="quicnprotochat passphrase set")
def passphrase(ctx: click.Context) -> None:
    """Encrypt this home with a passphrase; alone, say whether it is."""
    if ctx.invoked_subcommand is None:
        from node.home import require_account

        state: State = ctx.obj
        require_account(state.home)
        _show(state)


@passphrase.command("set", example="quicnprotochat passphrase set")
@click.pass_obj
def set_passphrase(state: State) -> None:
    """Encrypt this home; the unencrypted database is wiped."""
    _require_idle(state)
    _change(state, None, state.secrets.new_home(wanted=True))


@passphrase.command("change", example="quicnprotochat passphrase change")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The new passphrase; asked for by default.",
)
@click.pass_obj
def change(state: State, new_passphrase_file: Path | None) -> None:
    """Take another passphrase."""
    _require_idle(state)
    old = state.secrets.home()
    new = state.secrets.obtain(new_passphrase_file, "New passphrase for this home", new=True)
    _change(state, old, new)


@passphrase.command("remove", example="quicnprotochat passphrase remove")
@click.pass_obj
def remove(state: State) -> None:
    """Keep this home without encryption from now on."""
    _require_idle(state)
    _change(state, state.secrets.home(), None)


def _require_idle(state: State) -> None:
    """Before anybody types passphrases. Raises Fault `no-account`, `already-running`."""
    from node.home import require_account
    from storage.lock import FolderLock

    require_account(state.home)
    with FolderLock(state.home):
        pass


def _change(state: State, old: bytes | None, new: bytes | None) -> None:
    from node.encryption import change_passphrase

    change_passphrase(state.home, old, new)
    _show(state)


def _show(state: State) -> None:
    from node.encryption import is_encrypted

    encrypted = is_encrypted(state.home)
    state.out.record(
        {"encrypted": encrypted, "home": str(state.home)},
        [("encrypted", "yes" if encrypted else "no"), ("home", str(state.home))],
    )
