"""Commands about groups: made, joined, changed, left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from node.cli import completion
from node.cli.command import SECONDS, Commands
from node.cli.output import clean, short
from node.cli.state import State, TimedOut
from schemas.errors import Fault

if TYPE_CHECKING:
    from node.api.operations import Operation
    from node.api.session import Session
    from node.api.shapes import Group

commands = Commands("Groups")

_LONGEST_NAMED = 40  # a person who was named by more than that was named by a key


@commands.add("create-group", example="quicnprotochat create-group friends --suite hybrid")
@click.argument("name")
@click.option(
    "--suite",
    type=click.Choice(["hybrid", "classic"]),
    default="hybrid",
    show_default=True,
    help="Key agreement with ML-KEM-768 and X25519, or X25519 alone.",
)
def create_group(state: State, name: str, suite: str) -> None:
    """Create a group called NAME, with you as its admin."""
    from node.api import operations as op
    from node.api.shapes import CreateGroup

    with state.session() as session:
        group = session.call(op.CREATE_GROUP, CreateGroup(name, suite))
        state.out.result(
            group.to_json(), f"created {clean(group.name)}  {group.group}  {group.suite}"
        )


@commands.add("groups", example="quicnprotochat groups")
def groups(state: State) -> None:
    """List your groups, with epoch and suite."""
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session() as session:
        rows = [group for group in session.call(op.GROUPS, Nothing()) if group.accepted]
    _list(state, rows, "no group yet; make one with `quicnprotochat create-group NAME`")


def _list(state: State, rows: list[Group], empty: str) -> None:
    state.out.listing(
        [row.to_json() for row in rows],
        ("NAME", "GROUP", "EPOCH", "SUITE", "MEMBERS", "STATUS"),
        (
            (_title(row), row.group, row.epoch, row.suite, len(row.members), row.status)
            for row in rows
        ),
        empty=empty,
    )


def _title(group: Group) -> str:
    return group.name or ", ".join(member.name for member in group.members) or short(group.group)


@commands.add("members", example="quicnprotochat members friends")
@click.argument("group", shell_complete=completion.groups)
def members(state: State, group: str) -> None:
    """Show who is in GROUP, its epoch and its suite, and who stands at which epoch.

    As far as this node has heard: `behind` was away, `elsewhere` is on another branch.
    """
    from node.api import operations as op
    from node.api.shapes import ByGroup

    with state.session() as session:
        found = session.call(op.GROUP, ByGroup(group))
    if state.json:
        state.out.emit(found.to_json())
        return
    state.out.say(
        f"{clean(_title(found))}  epoch {found.epoch}  suite {found.suite}  {found.status}"
    )
    state.out.listing(
        [member.to_json() for member in found.members],
        ("NAME", "ROLE", "IDENTITY", "DEVICES", "EPOCH", "STANDS"),
        (
            (
                member.name,
                member.role,
                member.identity,
                len(member.devices),
                "-" if member.epoch is None else member.epoch,
                member.standing,
            )
            for member in found.members
        ),
        empty="no member is known",
    )


@commands.add("invite", example="quicnprotochat invite friends Bob --role member")
@click.argument("group", shell_complete=completion.groups)
@click.argument(
    "people",
    nargs=-1,
    required=True,
    metavar="CARD-OR-KEY...",
    shell_complete=completion.people,
)
@click.option(
    "--role",
    type=click.Choice(["member", "admin"]),
    default="member",
    show_default=True,
    help="What they may do in the group.",
)
@click.option("--again", is_flag=True, help="Also who is a member: their device lost the group.")
def invite(state: State, group: str, people: tuple[str, ...], role: str, again: bool) -> None:
    """Add people to GROUP. Somebody given by card becomes a contact first."""
    from node.api import operations as op
    from node.api.shapes import ByGroup, Invite

    with state.session() as session:
        invited = session.call(op.INVITE, Invite(group, list(people), role, again))
        members = session.call(op.GROUP, ByGroup(invited.group)).members
        name_of = {member.identity: member.name for member in members}
        names = ", ".join(name_of.get(key) or short(key) for key in invited.invited)
        state.out.result(
            invited.to_json(),
            f"invited {clean(names)} to {clean(invited.name)} (epoch {invited.epoch})",
        )


@commands.add("requests", example="quicnprotochat requests")
def requests(state: State) -> None:
    """List invitations and first messages from strangers."""
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session() as session:
        session.call(op.LOOK, Nothing())
        rows = session.call(op.REQUESTS, Nothing())
    state.out.listing(
        [row.to_json() for row in rows],
        ("NAME", "GROUP", "FROM", "IDENTITY", "KNOWN"),
        (
            (
                row.name,
                row.group,
                row.inviter_name,
                row.identity,
                "contact" if row.inviter_is_contact else "stranger",
            )
            for row in rows
        ),
        empty="nothing waits for you",
    )


@commands.add("join", example="quicnprotochat join friends --wait 30")
@click.argument("group", required=False, shell_complete=completion.groups)
@click.option("--wait", type=SECONDS, metavar="S", help="Wait up to S seconds for it.")
def join(state: State, group: str | None, wait: float | None) -> None:
    """Accept the invitation to GROUP. Without GROUP, list the invitations."""
    with state.session() as session:
        if group is None:
            rows = _invitations(session, wait)
            _list(state, rows, "no invitation; `--wait S` waits for one")
        else:
            joined = _join(session, group, wait)
            state.out.result(
                joined.to_json(),
                f"joined {clean(_title(joined))} (epoch {joined.epoch}, "
                f"{len(joined.members)} members)",
            )


def _join(session: Session, group: str, wait: float | None) -> Group:
    from node.api import operations as op
    from node.api.shapes import ByGroup, Nothing

    if wait is None:
        session.call(op.LOOK, Nothing())
        return session.call(op.JOIN, ByGroup(group))
    for _ in session.events(time.monotonic() + wait):
        try:
            return session.call(op.JOIN, ByGroup(group))
        except Fault as fault:
            if fault.code != "unknown-group":
                raise
    raise TimedOut(
        f"no invitation to {group!r} came within {wait:g} s",
        "ask the inviter whether `quicnprotochat why` says anything",
    )


def _invitations(session: Session, wait: float | None) -> list[Group]:
    from node.api import operations as op
    from node.api.shapes import Nothing

    def look() -> list[Group]:
        return [group for group in session.call(op.GROUPS, Nothing()) if not group.accepted]

    if wait is None:
        session.call(op.LOOK, Nothing())
        return look()
    for _ in session.events(time.monotonic() + wait):
        if rows := look():
            return rows
    raise TimedOut(f"no invitation came within {wait:g} s")


@commands.add("leave", example="quicnprotochat leave friends")
@click.argument("group", shell_complete=completion.groups)
def leave(state: State, group: str) -> None:
    """Leave GROUP, or decline an invitation to it."""
    from node.api import operations as op
    from node.api.shapes import ByGroup

    _change(state, op.LEAVE, ByGroup(group), "leaving")


@commands.add("remove", example="quicnprotochat remove friends Bob")
@click.argument("group", shell_complete=completion.groups)
@click.argument("key", shell_complete=completion.people)
def remove(state: State, group: str, key: str) -> None:
    """Remove the person KEY from GROUP."""
    from node.api import operations as op
    from node.api.shapes import Remove

    whom = clean(key) if len(key) <= _LONGEST_NAMED else short(key)
    _change(state, op.REMOVE, Remove(group, key), f"removed {whom} from")


@commands.add("update-key", example="quicnprotochat update-key friends")
@click.argument("group", shell_complete=completion.groups)
def update_key(state: State, group: str) -> None:
    """Renew your key in GROUP. What was stolen before no longer reads what comes."""
    from node.api import operations as op
    from node.api.shapes import ByGroup

    _change(state, op.UPDATE_KEY, ByGroup(group), "key renewed in")


def _change(state: State, operation: Operation[Any, Group], request: Any, done: str) -> None:
    with state.session() as session:
        group = session.call(operation, request)
        state.out.result(group.to_json(), f"{done} {clean(_title(group))} (epoch {group.epoch})")
