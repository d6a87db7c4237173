"""Commands about other people: the address book, and what relays hold for a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli import completion
from node.cli.command import Commands
from node.cli.output import clean, short
from node.cli.state import State

if TYPE_CHECKING:
    from node.api.shapes import Blocked, Contact

commands = Commands("People")


@commands.add_group(
    "contacts",
    example="quicnprotochat contacts\nquicnprotochat contacts add quicnprotochat:AbC...",
)
def contacts(ctx: click.Context) -> None:
    """The address book; alone, it is shown."""
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


def _list(state: State) -> None:
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session() as session:
        rows = session.call(op.CONTACTS, Nothing())
    state.out.listing(
        [row.to_json() for row in rows],
        ("NAME", "IDENTITY", "VERIFIED", "REACHABLE"),
        ((row.name, row.identity, _yes(row.verified), _yes(row.reachable)) for row in rows),
        empty="nobody yet; add a person with `quicnprotochat contacts add CARD`",
    )


@contacts.command("list", example="quicnprotochat contacts list --json")
@click.pass_obj
def contacts_list(state: State) -> None:
    """Show the address book."""
    _list(state)


@contacts.command("add", example="quicnprotochat contacts add quicnprotochat:AbC...")
@click.argument("card")
@click.pass_obj
def contacts_add(state: State, card: str) -> None:
    """Add a person by their CARD; adding it again renews it."""
    from node.api import operations as op
    from node.api.shapes import AddContact

    with state.session() as session:
        _show(state, session.call(op.ADD_CONTACT, AddContact(card)))


@contacts.command("verify", example="quicnprotochat contacts verify Bob")
@click.argument("key", shell_complete=completion.people)
@click.pass_obj
def contacts_verify(state: State, key: str) -> None:
    """Mark KEY as verified, after you compared the safety number with that person."""
    from node.api import operations as op
    from node.api.shapes import ByPerson

    with state.session() as session:
        _show(state, session.call(op.VERIFY_CONTACT, ByPerson(key)))


def _show(state: State, contact: Contact) -> None:
    state.out.record(
        contact.to_json(),
        [
            ("name", contact.name),
            ("identity", contact.identity),
            ("safety number", contact.safety_number),
            ("verified", _yes(contact.verified)),
        ],
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


@commands.add("block", example="quicnprotochat block Mallory\nquicnprotochat block")
@click.argument("key", required=False)
def block(state: State, key: str | None) -> None:
    """Show nothing of KEY any more, without telling them; alone: list whom you blocked."""
    from node.api import operations as op
    from node.api.shapes import ByPerson, Nothing

    with state.session() as session:
        if key is not None:
            person = session.call(op.BLOCK, ByPerson(key))
            state.out.result(
                person.to_json(),
                f"blocked {_named(person)}: nothing of theirs is shown, and they are not told",
            )
            return
        rows = session.call(op.BLOCKED, Nothing())
    state.out.listing(
        [row.to_json() for row in rows],
        ("NAME", "IDENTITY", "SINCE"),
        ((row.name, row.identity, row.since) for row in rows),
        empty="nobody",
    )


@commands.add("unblock", example="quicnprotochat unblock Mallory")
@click.argument("key", shell_complete=completion.people)
def unblock(state: State, key: str) -> None:
    """Undo `block`."""
    from node.api import operations as op
    from node.api.shapes import ByPerson

    with state.session() as session:
        person = session.call(op.UNBLOCK, ByPerson(key))
    state.out.result(
        {"identity": person.identity, "name": person.name},
        f"unblocked {_named(person)}: what they send is shown again",
    )


def _named(person: Blocked) -> str:
    return f"{clean(person.name)} ({short(person.identity)})" if person.name else person.identity


@commands.add("fetch-key", example="quicnprotochat fetch-key Bob --suite hybrid")
@click.argument("key", shell_complete=completion.people)
@click.option("--suite", type=click.Choice(["hybrid", "classic"]), help="Only of this suite.")
def fetch_key(state: State, key: str, suite: str | None) -> None:
    """Take a KeyPackage of each of KEY's devices from a relay. This uses it up."""
    from node.api import operations as op
    from node.api.shapes import FetchKey

    with state.session() as session:
        rows = session.call(op.FETCH_KEY, FetchKey(key, suite or ""))
    state.out.listing(
        [row.to_json() for row in rows],
        ("DEVICE", "SUITE", "FINGERPRINT", "RELAY"),
        ((short(row.device), row.suite, row.fingerprint, row.relay) for row in rows),
        empty="no relay holds a KeyPackage for that person",
    )


@commands.add("check-key", example="quicnprotochat check-key Bob")
@click.argument("key", shell_complete=completion.people)
def check_key(state: State, key: str) -> None:
    """Show what relays hold for KEY. Nothing is used up."""
    from node.api import operations as op
    from node.api.shapes import ByPerson

    with state.session() as session:
        rows = session.call(op.CHECK_KEY, ByPerson(key))
    state.out.listing(
        [row.to_json() for row in rows],
        ("DEVICE", "RELAY", "BUNDLE", "HYBRID KEY", "ENDPOINT"),
        (
            (
                short(row.device),
                row.relay,
                row.bundle_number or "-",
                _yes(row.hybrid_key),
                _yes(row.endpoint),
            )
            for row in rows
        ),
        empty="no relay holds anything for that person",
    )
