"""`backup` and `restore`: one person's account and history in a sealed file."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.command import Commands
from node.cli.state import State

commands = Commands("Your node")

_passphrase_option = click.option(
    "--backup-passphrase-file",
    "sealed_with",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The backup's own passphrase. [default: that of --passphrase-file, else asked]",
)


@commands.add("backup", example="quicnprotochat backup alice.qpce")
@click.argument("file", type=click.Path(path_type=Path))
@_passphrase_option
def backup(state: State, file: Path, sealed_with: Path | None) -> None:
    """Write identity, contacts, groups and messages to FILE, sealed with a passphrase."""
    from node.api import operations as op
    from node.api.shapes import BackUp
    from node.backup_file import check_free

    path = file.expanduser().absolute()
    check_free(path)  # before somebody types a passphrase twice
    named = sealed_with or state.secrets.file
    passphrase = state.secrets.obtain(named, "Passphrase for the backup", new=True)
    with state.session() as session:
        written = session.call(op.BACK_UP, BackUp(str(path), passphrase.decode()))
    state.out.record(written.to_json(), [("file", written.file), ("bytes", written.bytes)])
    state.out.note(
        "\nWhoever has this file and its passphrase is you. It holds no keys of groups: after "
        "`restore`, an admin of each group has to invite you again."
    )


@commands.add("restore", example="quicnprotochat restore alice.qpce --home NEW")
@click.argument("file", type=click.Path(path_type=Path))
@_passphrase_option
def restore(state: State, file: Path, sealed_with: Path | None) -> None:
    """Make a new home from a backup: the same person on a new device.

    The new home is encrypted when a --passphrase-file is given.
    """
    from identity.sealed_file import open_file_untrusted
    from node.backup_file import read_backup
    from node.home import restore_home

    sealed = read_backup(file.expanduser())
    named = sealed_with or state.secrets.file
    content = open_file_untrusted(state.secrets.obtain(named, "Passphrase of the backup"), sealed)
    restore_home(state.home, content, state.secrets.new_home())
    state.out.record(
        {"file": str(file.expanduser().absolute()), "bytes": len(sealed), "home": str(state.home)},
        [("restored from", str(file)), ("home", str(state.home))],
    )
    state.out.note(
        "\nThis is a new device of the same person. Never run the old home again. An admin of "
        "each group has to invite you again (see `groups`)."
    )
