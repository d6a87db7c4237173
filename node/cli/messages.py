"""Commands about messages: sent, received, and where they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from node.cli import completion
from node.cli.command import SECONDS, Commands
from node.cli.output import clean, short
from node.cli.receive import Receiver
from node.cli.state import State
from node.cli.waiting import send_and_wait
from schemas.errors import Blame, Fault, Refused
from schemas.limits import MESSAGE_TEXT

if TYPE_CHECKING:
    from node.api.session import Session
    from node.api.shapes import Sent

commands = Commands("Messages")

_WRITABLE = ("active", "split", "stranded")


@commands.add(
    "send",
    example="quicnprotochat send friends --msg 'See you at eight'\n"
    "date | quicnprotochat send --peer-key Bob -\n"
    "quicnprotochat send friends --msg hello --wait delivered --timeout 10",
)
@click.argument("target", nargs=-1, metavar="[GROUP] [-]", shell_complete=completion.groups)
@click.option("--msg", metavar="TEXT", help="The text; `-` reads it from standard input.")
@click.option(
    "--peer-key",
    metavar="KEY",
    shell_complete=completion.people,
    help="To a person, in a one-to-one group.",
)
@click.option("--all", "everywhere", is_flag=True, help="To every group you are in.")
@click.option("--wait", type=click.Choice(["delivered"]), help="Return when everybody has it.")
@click.option("--timeout", type=SECONDS, metavar="S", help="Wait no longer; then exit 3.")
def send(
    state: State,
    target: tuple[str, ...],
    msg: str | None,
    peer_key: str | None,
    everywhere: bool,
    wait: str | None,
    timeout: float | None,
) -> None:
    """Send a message to GROUP. It is on disk when this returns."""
    from node.api import operations as op
    from node.api.shapes import Send

    names = list(target)
    if names and names[-1] == "-" and msg is None:
        msg = names.pop()
    if msg is None:
        raise click.UsageError("give the text with --msg TEXT, or - to read it")
    if len(names) > 1 or (len(names) == 1) + (peer_key is not None) + everywhere != 1:
        raise click.UsageError("name one GROUP, or --peer-key KEY, or --all")
    if timeout is not None and wait is None:
        raise click.UsageError("--timeout goes with --wait")
    text = _checked(_standard_input() if msg == "-" else msg)
    with state.session() as session:
        if everywhere:
            asked = [Send(text, group=group) for group in _every_group(session)]
        else:
            asked = [Send(text, group=names[0] if names else "", person=peer_key or "")]

        def show(sent: Sent) -> None:
            state.out.result(sent.to_json(), f"{sent.status}  {sent.message}")

        if wait is None:
            for request in asked:
                show(session.call(op.SEND, request))
        else:
            send_and_wait(session, asked, timeout, show)


def _checked(text: str) -> str:
    """What a message can hold, told before a node is asked. Raises UsageError, Refused."""
    if not text:
        raise click.UsageError("the text is empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise click.UsageError("the text is not UTF-8") from None
    if size > MESSAGE_TEXT:
        raise Refused(
            "message-too-long",
            f"a message of more than {MESSAGE_TEXT} bytes",
            hint="split it",
        )
    return text


def _standard_input() -> str:
    """All of it, but no more than tells that it is too long."""
    try:
        return sys.stdin.buffer.read(MESSAGE_TEXT + 2).decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise click.UsageError("the text is not UTF-8") from None


def _every_group(session: Session) -> list[str]:
    from node.api import operations as op
    from node.api.shapes import Nothing

    groups = session.call(op.GROUPS, Nothing())
    found = [group.group for group in groups if group.accepted and group.status in _WRITABLE]
    if not found:
        raise Fault(
            "no-group",
            "there is no group to send to",
            blame=Blame.CALLER,
            hint="make one with `quicnprotochat create-group NAME`",
        )
    return found


@commands.add(
    "recv",
    example="quicnprotochat recv friends --timeout 10\n"
    "quicnprotochat recv --stream --json --cursor bot",
)
@click.argument("group", required=False, shell_complete=completion.groups)
@click.option("--stream", is_flag=True, help="Go on, with what comes, until Ctrl-C.")
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="S",
    help="Wait up to S seconds; exit 3 if nothing came.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@click.option(
    "--cursor",
    default="default",
    show_default=True,
    metavar="NAME",
    help="Whose place in the messages to use; it moves as lines are written.",
)
def recv(
    state: State,
    group: str | None,
    stream: bool,
    timeout: float | None,
    count: int | None,
    cursor: str,
) -> None:
    """Show what this cursor has not shown yet, of GROUP or all groups.

    A cursor has one reader at a time; a second one is refused (cursor-in-use).
    """
    with state.session() as session:
        receiver = Receiver(session, state.out, group or "", cursor, count)
        if stream:
            receiver.follow(timeout)
        elif timeout is not None:
            receiver.wait(timeout)
        else:
            receiver.look()


@commands.add("ledger", example="quicnprotochat ledger 3f9a2c")
@click.argument("message")
def ledger(state: State, message: str) -> None:
    """Show where MESSAGE is, for each recipient."""
    from node.api import operations as op
    from node.api.shapes import ByMessage

    with state.session() as session:
        rows = session.call(op.LEDGER, ByMessage(message))
    state.out.listing(
        [row.to_json() for row in rows],
        ("NAME", "DEVICE", "STATE", "PATH", "UPDATED", "REASON"),
        (
            (
                row.name or short(row.identity),
                short(row.device),
                row.state,
                f"carried by {row.by_name}" if row.by_name else row.path or "-",
                row.updated_at,
                row.reason or "",
            )
            for row in rows
        ),
        empty="nobody else was in the group",
    )


@commands.add("why", example="quicnprotochat why 3f9a2c")
@click.argument("message")
def why(state: State, message: str) -> None:
    """Say why MESSAGE is not everywhere yet, and what to do about it."""
    from node.api import operations as op
    from node.api.shapes import ByMessage

    with state.session() as session:
        rows = session.call(op.WHY, ByMessage(message))
    if state.json:
        for row in rows:
            state.out.emit(row.to_json())
    elif not rows:
        state.out.say("everybody has it")
    else:
        for row in rows:
            state.out.say(f"{clean(row.name)}: {clean(row.sentence)} {clean(row.action)}")
