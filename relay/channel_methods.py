"""Channels: mailboxes of a pair of devices, for the seed system's clients; nodes need none.

Whoever uses a channel is one of its two members, by the device key that TLS has proven. A sealed
sender is nobody, and so has no channels.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from relay.admission import Admission
from relay.call import Call
from relay.store.channels import CHANNEL_ID, ChannelStore
from relay.store.contract import MailboxName
from schemas.errors import Refused
from schemas.ids import DeviceKey


class ChannelMethods:
    """They raise Fault to refuse."""

    def __init__(self, channels: ChannelStore, admission: Admission) -> None:
        self._channels = channels
        self._admission = admission

    async def create(self, call: Call) -> None:
        with call.request() as params:
            peer = DeviceKey(params.peerKey)
        await self._admission.introduce(call)
        channel = await self._channels.create(call.device, peer, secrets.token_bytes(CHANNEL_ID))
        call.results.channelId = channel.id
        call.results.wasNew = channel.made

    async def refusals(
        self, caller: DeviceKey, names: Sequence[MailboxName]
    ) -> list[Refused | None]:
        """Why the caller may not use each of these mailboxes; None: it may.

        That of `channel-not-found` and `channel-access-denied` tell apart is an id of 16 random
        bytes, which nobody guesses.
        """
        wanted = list({name.channel for name in names if name.channel})
        if not wanted:
            return [None] * len(names)
        members = dict(zip(wanted, await self._channels.members(wanted), strict=True))
        return [
            _refusal(caller, name.recipient, members[name.channel]) if name.channel else None
            for name in names
        ]

    async def require(self, caller: DeviceKey, name: MailboxName) -> None:
        """Raises Refused `channel-not-found`, `channel-access-denied`."""
        [refusal] = await self.refusals(caller, [name])
        if refusal is not None:
            raise refusal


def _refusal(
    caller: DeviceKey, recipient: DeviceKey, members: frozenset[DeviceKey] | None
) -> Refused | None:
    if members is None:
        return Refused(
            "channel-not-found",
            "E023 CHANNEL_NOT_FOUND: there is no such channel",
            hint="make it with createChannel",
        )
    if not {caller, recipient} <= members:
        return Refused(
            "channel-access-denied",
            "E022 CHANNEL_ACCESS_DENIED: caller and recipient must be the channel's members",
            hint="use a channel of these two, or none",
        )
    return None
