"""Channels over real QUIC: for their two members, and for nobody else."""

from __future__ import annotations

import os

from relay.server import Relay
from tests.relay.support import client_of, new_device, parcel


async def test_a_pair_has_one_channel_and_mail_of_its_own(relay: Relay) -> None:
    async with client_of(relay) as ann, client_of(relay) as bob:
        made = await ann.call("createChannel", peerKey=bytes(bob.device.public))
        again = await bob.call("createChannel", peerKey=bytes(ann.device.public))
        assert (made.error.code, made.wasNew, again.wasNew) == ("", True, False)
        channel = bytes(made.channelId)
        assert channel == bytes(again.channelId)
        assert len(channel) == 16
        sent = await ann.enqueue(parcel(bob.device.public, channel=channel))
        assert sent.error.code == ""
        assert len((await bob.peek()).parcels) == 0, "another queue"
        own = {"recipientKey": bytes(bob.device.public), "channelId": channel}
        mailbox = await bob.call("peek", **own)
        assert len(mailbox.parcels) == 1
        done = await bob.call("ack", sequences=[mailbox.parcels[0].sequence], **own)
        assert done.acknowledged == 1


async def test_only_members_bring_and_read(relay: Relay) -> None:
    async with client_of(relay) as ann, client_of(relay) as bob, client_of(relay) as eve:
        made = await ann.call("createChannel", peerKey=bytes(bob.device.public))
        channel, unknown = bytes(made.channelId), os.urandom(16)
        stranger = new_device().public
        for client, recipient, by, code in (
            (eve, bob.device.public, channel, "channel-access-denied"),
            (eve, eve.device.public, channel, "channel-access-denied"),
            (ann, stranger, channel, "channel-access-denied"),
            (ann, bob.device.public, unknown, "channel-not-found"),
            (ann, bob.device.public, channel, ""),
        ):
            answer = await client.enqueue(parcel(recipient, channel=by))
            assert answer.error.code == answer.result.error.code == code
        assert answer.error.message == ""
        for method in ("peek", "fetch", "fetchWait", "ack"):
            own = {"recipientKey": bytes(eve.device.public)}
            refused = await eve.call(method, channelId=channel, **own)
            assert refused.error.code == "channel-access-denied"
            assert refused.error.message.startswith("E022 CHANNEL_ACCESS_DENIED")
            unknown_to = await eve.call(method, channelId=unknown, **own)
            assert unknown_to.error.code == "channel-not-found"
            assert unknown_to.error.message.startswith("E023 CHANNEL_NOT_FOUND")


async def test_a_batch_is_judged_item_by_item(relay: Relay) -> None:
    async with client_of(relay) as ann:
        bob, eve = new_device().public, new_device().public
        made = await ann.call("createChannel", peerKey=bytes(bob))
        channel = bytes(made.channelId)
        batch = [
            parcel(bob),
            parcel(bob, channel=channel),
            parcel(eve, channel=channel),
            parcel(bob, channel=os.urandom(16)),
            parcel(ann.device.public, channel=channel),
        ]
        answer = await ann.call("batchEnqueue", items=batch)
        assert [result.error.code for result in answer.results] == [
            "", "", "channel-access-denied", "channel-not-found", "",
        ]  # fmt: skip
