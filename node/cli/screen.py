"""`chat` on a terminal: the last lines live above the prompt, older ones in its scroll-back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.patch_stdout import patch_stdout

from node.cli.output import clean
from node.cli.room import Entry, Room
from schemas.errors import Fault

_LIVE: Final = 12  # lines whose ticks may still change on the screen
_BELOW: Final = 4  # lines of the terminal that are left to the prompt
_HELP: Final = (
    "/members  who is here\n/quit     end (as Ctrl-D does)\n"
    "… queued   ✓ on their disk   ⇡ kept by a relay   ✓✓ delivered (bold: read)   ✗ lost: see `why`"
)


class Screen:
    """Shows a room and takes lines; `run` returns when the person ends it."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._printed = 0  # entries that went to the scroll-back
        # A KeyboardInterrupt inside a task would end the loop, and with it the deliveries.
        self._session: PromptSession[str] = PromptSession(
            erase_when_done=True, interrupt_exception=EOFError
        )

    async def run(self) -> None:
        """Raises the Fault that ends the conversation."""
        title = clean(self._room.group.name)
        members = ", ".join(clean(member.name) for member in self._room.group.members)
        with patch_stdout(raw=True):
            print(f"-- {title} ({members}); /help for help, Ctrl-D to end --")
            following = asyncio.create_task(self._follow())
            try:
                await self._take_lines(following)
            finally:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
                self._print_past(keep=0)

    async def _follow(self) -> None:
        async for note in self._room.changes():
            if note:
                print(f"-- {note}")
            self._print_past(keep=self._room_left())
            self._session.app.invalidate()

    async def _take_lines(self, following: asyncio.Task[None]) -> None:
        while True:
            asking = asyncio.create_task(self._session.prompt_async(self._prompt))
            await asyncio.wait({asking, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():  # the node is gone
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError, EOFError):
                    await asking
                following.result()
                return
            try:
                line = asking.result().strip()
            except EOFError:
                return
            if line == "/quit":
                return
            await self._obey(line)

    async def _obey(self, line: str) -> None:
        if line == "/help":
            print(_HELP)
        elif line == "/members":
            for member in self._room.group.members:
                print(f"   {clean(member.name)}  {member.role}  {member.identity[:12]}")
        elif line.startswith("/"):
            print(f"-- no command {clean(line.split()[0])}; /help lists them")
        elif line:
            try:
                await self._room.send(line)
            except Fault as fault:
                print(f"-- not sent: {clean(fault.message)} {clean(fault.hint)}")
            self._print_past(keep=self._room_left())

    # --- what is seen

    def _prompt(self) -> StyleAndTextTuples:
        shown: StyleAndTextTuples = []
        for entry in self._room.entries[self._printed :]:
            shown += [*_styled(entry), ("", "\n")]
        return [*shown, ("bold", "> ")]

    def _room_left(self) -> int:
        return max(1, min(_LIVE, shutil.get_terminal_size().lines - _BELOW))

    def _print_past(self, keep: int) -> None:
        last = max(self._printed, len(self._room.entries) - keep)
        for entry in self._room.entries[self._printed : last]:
            print("".join(text for _, text, *_ in _styled(entry)))
        self._printed = last


def _styled(entry: Entry) -> StyleAndTextTuples:
    time, name, words = entry.text()
    tick = ("bold" if entry.status == "read" else "", f"  {entry.tick}" if entry.tick else "")
    return [("ansibrightblack", f"{time} "), ("bold", f"{name}: "), ("", words), tick]
