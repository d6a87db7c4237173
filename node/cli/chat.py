"""`chat`: a conversation on a terminal, or line by line for scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli import completion
from node.cli.command import Commands
from node.cli.state import State

if TYPE_CHECKING:
    import asyncio

    from node.client import Node

commands = Commands("Messages")

_LINE: Final = 1 << 20  # bytes without a line break that are taken for one line


@commands.add(
    "chat",
    example="quicnprotochat chat friends\nquicnprotochat chat Bob\n"
    "my-program | quicnprotochat chat friends --json",
)
@click.argument("target", required=False, metavar="GROUP-OR-KEY", shell_complete=completion.either)
@click.option(
    "--peer-key",
    metavar="KEY",
    shell_complete=completion.people,
    help="A person, in a one-to-one group.",
)
@click.option(
    "--cursor",
    default="default",
    show_default=True,
    metavar="NAME",
    help="Whose place in the messages to use when standard input is not a terminal.",
)
def chat(state: State, target: str | None, peer_key: str | None, cursor: str) -> None:
    """Talk in GROUP, or with the person KEY.

    On a terminal: history, ticks for delivery, /help. Otherwise each line of standard input is
    sent as a message, what comes is printed, and the end of the input ends it.
    """
    import asyncio

    if (target is None) == (peer_key is None):
        raise click.UsageError("name one GROUP-OR-KEY, or --peer-key KEY")
    asyncio.run(_chat(state, target or "", peer_key, cursor))


async def _chat(state: State, target: str, peer_key: str | None, cursor: str) -> None:
    from node.cli.room import Room, find_group
    from node.client import using

    async with using(state.session()) as node:
        group = await find_group(node, target, peer_key)
        if state.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            await _by_lines(state, node, group.group, cursor)
        else:
            from node.cli.screen import Screen

            await Screen(Room(node, group)).run()


async def _by_lines(state: State, node: Node, group: str, cursor: str) -> None:
    """Until the input ends. Raises the Fault that refuses a line, and those of the node."""
    import asyncio
    from contextlib import aclosing

    from node.cli.receive import line_of
    from node.cli.sentences import OF_BRANCHES, tell

    ours: set[str] = set()

    async def send() -> None:
        async for text in _lines():
            sent = await node.send(group, text)
            ours.add(sent.message)
            state.out.result(sent.to_json(), f"{sent.status}  {sent.message}")

    async def receive() -> None:
        async with aclosing(node.messages(group, cursor=cursor)) as messages:
            async for message in messages:
                state.out.result(message.to_json(), line_of(message))

    async def follow() -> None:
        async with aclosing(node.events()) as events:
            async for event in events:
                if event["event"] in OF_BRANCHES and event["group"] == group:
                    tell(state.out, event)
                elif event["event"] == "ledger" and event["message"] in ours and state.json:
                    state.out.emit(
                        {
                            "message": event["message"],
                            "group": group,
                            "status": event["state"],
                            "identity": event["identity"],
                        }
                    )

    tasks = [asyncio.create_task(each()) for each in (send, receive, follow)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _lines() -> Any:
    """Lines of standard input that hold something, read by a thread that may be left behind."""
    import asyncio
    import os
    import threading

    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        while True:
            try:
                block = os.read(sys.stdin.fileno(), 65_536)
            except OSError:
                block = b""
            try:
                loop.call_soon_threadsafe(waiting.put_nowait, block)
            except RuntimeError:  # the loop has ended
                return
            if not block:
                return

    threading.Thread(target=read, daemon=True, name="standard-input").start()
    rest = b""
    while block := await waiting.get():
        *whole, rest = (rest + block).split(b"\n")
        if len(rest) > _LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            if text := line.decode("utf-8", "replace").strip("\r"):
                yield text
    if text := rest.decode("utf-8", "replace").strip("\r"):
        yield text
