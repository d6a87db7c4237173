"""What a store promises about channels: an id for each pair of devices, for the seed's clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from schemas.errors import Refused
from schemas.ids import DeviceKey

CHANNEL_ID: Final = 16
CHANNELS_PER_DEVICE: Final = 1000  # that it made; those that others made with it are theirs


class Channel(NamedTuple):
    """`made`: by this very call."""

    id: bytes
    made: bool


class ChannelStore(Protocol):
    """The part `store.channels`; tests/relay/store/test_channels.py holds every store to it."""

    async def create(self, maker: DeviceKey, other: DeviceKey, fresh: bytes) -> Channel:
        """The channel of these two, whoever asks; `fresh` becomes its id if there is none.

        A channel counts for its maker, until one of the two was forgotten. Raises Refused
        `too-many-channels`.
        """
        ...

    async def members(self, ids: Sequence[bytes]) -> list[frozenset[DeviceKey] | None]:
        """Who may use each channel; None: there is no such channel."""
        ...


def pair(one: DeviceKey, other: DeviceKey) -> tuple[bytes, bytes]:
    """In the order in which a pair is kept."""
    low, high = sorted((bytes(one), bytes(other)))
    return low, high


def too_many_channels() -> Refused:
    return Refused(
        "too-many-channels",
        f"a device makes {CHANNELS_PER_DEVICE} channels at most",
        hint="use mailboxes without a channel",
    )
