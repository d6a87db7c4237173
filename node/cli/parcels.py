"""`export-parcels` and `import-parcels`: sealed parcels carried by hand, where no network is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from node.cli import completion
from node.cli.command import Commands
from node.cli.output import clean
from node.cli.state import State

commands = Commands("Messages")

_ANSWER_S: Final = 3600.0  # a full stick is 4 GiB


@commands.add(
    "export-parcels",
    example="quicnprotochat export-parcels /media/stick/for-bob.qpcp --for Bob",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "to",
    metavar="KEY-OR-GROUP",
    default="",
    shell_complete=completion.either,
    help="Only what waits for this person or group. For a person, FILE also introduces you: it "
    "holds your contact bundle and KeyPackages, so that they can invite you with no network.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export_parcels(state: State, file: Path, to: str, force: bool) -> None:
    """Write what waits to be sent to FILE, sealed, to be carried by hand.

    Each parcel is sealed as for the network, and waits for the network all the same: what comes
    twice is kept once. FILE shows whose devices it is for, and how much.
    """
    from node.api import operations as op
    from node.api.shapes import ExportParcels

    path = str(file.expanduser().absolute())
    with state.session() as session:
        request = ExportParcels(path, to, force)
        done = session.call(op.EXPORT_PARCELS, request, timeout_s=_ANSWER_S)
    people = ", ".join(each.name for each in done.recipients) or "-"
    shown = [("file", path), ("bytes", done.bytes), ("parcels", done.parcels), ("for", people)]
    if done.introduces:
        shown.append(("introduces", "you, to be invited and written to"))
    state.out.record(done.to_json(), shown)
    if done.keyless:
        state.out.note(
            f"\n{done.keyless} more parcels wait for the keys of their readers' devices: import a "
            "file from them that they made with --for, or reach them once."
        )


@commands.add("import-parcels", example="quicnprotochat import-parcels /media/stick/for-bob.qpcp")
@click.argument("file", type=click.Path(path_type=Path))
def import_parcels(state: State, file: Path) -> None:
    """Take in the parcels of FILE that are for this device.

    Importing a file again is harmless. To bring receipts and answers back, `export-parcels` here.
    """
    from node.api import operations as op
    from node.api.shapes import ImportParcels

    path = str(file.expanduser().absolute())
    with state.session() as session:
        done = session.call(op.IMPORT_PARCELS, ImportParcels(path), timeout_s=_ANSWER_S)
    shown: list[tuple[str, object]] = [
        ("file", path),
        ("parcels", done.parcels),
        ("new", done.new),
        ("known before", done.known),
        ("for others", done.others),
    ]
    shown += [(f"refused: {code}", count) for code, count in done.refused.items()]
    if done.introduced:
        shown.append(("introduces", ", ".join(each.name for each in done.introduced)))
    state.out.record(done.to_json(), shown)
    for stranger in done.strangers:
        state.out.note(f"\n{clean(stranger)}. Add their card, then import the file again.")
    if done.later:
        state.out.note(
            f"\n{done.later} parcels could not be taken yet, since what they follow is not here: "
            "import the file again when more has come."
        )
