"""What the processes of a relay that share one database say of themselves there, and their key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from schemas.addresses import Address

HEARTBEAT_S: Final = 3.0
LIVE_S: Final = 12.0  # after its last word a process counts as gone: several heartbeats
RETURNS_S: Final = 300.0  # so long nodes are told of one that is gone: a restart takes less
REMEMBERED_S: Final = 3600  # operators see it for so long


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `age_s`: since its last word; `run` is other each time that it starts."""

    address: Address
    run: bytes
    version: str
    started: int  # Unix seconds
    age_s: float
    withdrawn: bool

    @property
    def live(self) -> bool:
        return not self.withdrawn and self.age_s < LIVE_S

    @property
    def expected(self) -> bool:
        """It lives, or is being restarted, most likely."""
        return self.age_s < RETURNS_S

    @property
    def standing(self) -> str:
        """In words."""
        how = "alive" if self.live else "ended" if self.withdrawn else "silent"
        return f"{how}, last word {self.age_s:.0f} s ago"


class Processes(Protocol):
    """A part of stores that several processes share. Its times are the database's, not arguments:
    processes on several machines must agree on who is silent, whatever their clocks say."""

    async def announce(self, address: Address, run: bytes, version: str) -> list[Process]:
        """This process is here, or still here: everybody of whom there was a word in the last
        REMEMBERED_S, ours with them; those that live first, then by their start.

        One that has another `run` at this address is replaced by a newer one.
        """
        ...

    async def withdraw(self, address: Address, run: bytes) -> None:
        """It stops: nobody is to come here any more."""
        ...

    async def all(self) -> list[Process]:
        """As `announce` answers."""
        ...

    async def relay_seed(self, seed: bytes) -> bytes:
        """The seed of the key of this relay: this one, durably, where there was none before."""
        ...
