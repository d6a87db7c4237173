"""Of senders against a relay that wants to know them, and of mailboxes against strangers."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_CURIOUS = (
    "tests/node/delivery/test_curious_operator.py"
    "::test_an_operator_names_no_sender_and_groups_no_recipients"
)
_GUISES = "tests/node/delivery/test_anonymous_relays.py"
_STORE = "tests/relay/store/test_delivery_tokens.py"
_ENGINE = "tests/node/engine/test_delivery_tokens.py"

SEALED: tuple[Defence, ...] = (
    defence(
        "parcels are brought under a throw-away key",
        "node/delivery/sockets.py",
        "        return await AnonymousEndpoint.open_anonymous(\n",
        "        shown = await AnonymousEndpoint.open(\n"
        "            self.device.private,\n"
        "            Address(beside.host, 0),\n"
        "            handlers={},\n"
        "            limits=self.limits,\n"
        "            utc_now=self._utc_now,\n"
        "        )\n"
        "        shown.device = self.device.public\n"
        "        return shown\n"
        "        return await AnonymousEndpoint.open_anonymous(\n",
        _CURIOUS,
    ),
    defence(
        "a connection for each recipient",
        "node/delivery/anonymous_relays.py",
        "        guise = self._guises.get(owner)\n        if guise is None or",
        "        guise = next(iter(self._guises.values()), None)\n        if guise is None or",
        _CURIOUS,
    ),
    defence(
        "few guises at once",
        "node/delivery/anonymous_relays.py",
        "        return len(self._guises) < self._limits.guises_at_once or",
        "        return True or",
        f"{_GUISES}::test_few_are_open_at_once_and_all_get_their_turn",
    ),
    defence(
        "a guise is thrown away",
        "node/delivery/anonymous_relays.py",
        "        if guise is None or self._clock() >= guise.until:",
        "        if guise is None:",
        f"{_GUISES}::test_a_guise_is_used_no_longer_than_its_life",
    ),
    defence(
        "parcels of one message leave spread in time",
        "node/delivery/departures.py",
        "        wait_s = 0.0 if alone else self._random.uniform(0.0, self._spread_s)",
        "        wait_s = 0.0 * alone",
        _CURIOUS,
    ),
    defence(
        "a recipient's relays are asked in its turn whether it moved",
        "node/delivery/obtain.py",
        "        await self._departures.turn(peer.device)\n",
        "",
        _CURIOUS,
    ),
    defence(
        "where a recipient is, is looked up in its turn",
        "node/delivery/obtain.py",
        "        await self._departures.turn(device)\n        async with asyncio.timeout(",
        "        async with asyncio.timeout(",
        _CURIOUS,
    ),
    defence(
        "meetings with several are asked for spread in time",
        "node/delivery/meeting.py",
        "        await self._means.departures.turn(device)\n",
        "",
        _CURIOUS,
    ),
    defence(
        "a ready guise waits for no room",
        "node/delivery/anonymous_relays.py",
        "            guise = self._ready(owner, relay)\n"
        "            if guise is not None:\n"
        "                return guise\n"
        "            async with self._opening:\n"
        "                guise = self._ready(owner, relay) or await self._opened(owner, relay)\n"
        "                if guise is not None:\n"
        "                    return guise\n"
        "                self._free.clear()\n"
        "            await self._free.wait()\n",
        "            async with self._opening:\n"
        "                guise = self._ready(owner, relay) or await self._opened(owner, relay)\n"
        "                if guise is not None:\n"
        "                    return guise\n"
        "                self._free.clear()\n"
        "                await self._free.wait()\n",
        f"{_GUISES}::test_who_has_a_guise_waits_for_nobody",
    ),
    defence(
        "a relay holds its share of the guises",
        "node/delivery/anonymous_relays.py",
        "        return len(there) < self._limits.guises_at_relay or",
        "        return True or",
        f"{_GUISES}::test_a_slow_relay_stops_no_other",
        f"{_GUISES}::test_a_slow_relay_gets_no_guise_from_another",
    ),
    defence(
        "parcels have size classes",
        "node/delivery/courier.py",
        "[pad(item.body) for item in items]",
        '[len(item.body).to_bytes(4, "little") + item.body for item in items]',
        _CURIOUS,
    ),
    Defence(
        "a relay keeps hashes of tokens",
        (
            Removal(
                "relay/store/sqlite/token_counts.py",
                "(bytes(item.recipient), token_hash(item.token))",
                "(bytes(item.recipient), item.token)",
            ),
        ),
        (
            f"{_STORE}::test_a_guarded_mailbox_takes_what_comes_with_a_token_or_from_its_owner[sqlite]",
        ),
    ),
    defence(
        "two mailboxes have no token in common",
        "identity/delivery_token.py",
        '_derive(group, b"group", device)',
        '_derive(group, b"group", b"")',
        f"{_ENGINE}::test_members_who_are_no_contacts_open_each_others_mailboxes",
    ),
    defence(
        "a mailbox with tokens takes nothing without",
        "relay/store/sqlite/mailboxes.py",
        "      AND (?7 OR NOT guarded)\n",
        "      AND (?7 OR 1)\n",
        f"{_STORE}::test_a_guarded_mailbox_takes_what_comes_with_a_token_or_from_its_owner[sqlite]",
        f"{_STORE}::test_what_is_not_set_again_is_revoked_at_once_and_the_others_stay[sqlite]",
        "tests/relay/test_delivery_tokens.py"
        "::test_a_stranger_brings_with_a_token_what_it_cannot_without",
    ),
    defence(
        "a delivery token has a share of the mailbox",
        "relay/store/sqlite/token_counts.py",
        "    return bool(parcels >= most or held + size > most_bytes)",
        "    return False",
        f"{_STORE}::test_a_token_that_leaked_fills_its_share_and_no_more[sqlite]",
        f"{_STORE}::test_a_share_counts_bytes_too_and_expiry_gives_them_back[sqlite]",
    ),
    defence(
        "a delivery token has a rate",
        "relay/callers.py",
        "            wait_s = max(self._token_parcels.wait_s(by, now),",
        "            wait_s = min(0.0,",
        "tests/relay/test_delivery_tokens.py::test_parcels_with_one_token_have_a_rate",
    ),
    defence(
        "a new delivery token is told later than it came",
        "node/delivery/token_news.py",
        "self._random.uniform(0.0, self._spread_s(own))",
        "0.0",
        f"{_GUISES}::test_a_new_token_is_told_later_than_it_came_and_before_we_go",
        f"{_GUISES}::test_how_long_a_token_may_wait",
    ),
    defence(
        "a revoked delivery token is told at once",
        "node/delivery/token_news.py",
        "or set(told.hashes) - set(own.hashes)",
        "",
        f"{_GUISES}::test_how_long_a_token_may_wait",
    ),
    defence(
        "a blocked contact's token is revoked",
        "node/store/bringers.py",
        'f"SELECT identity FROM contacts WHERE {_NOT_BLOCKED} ORDER BY added DESC"',
        '"SELECT identity FROM contacts ORDER BY added DESC"',
        f"{_ENGINE}::test_a_contact_gets_one_of_its_own_and_blocking_revokes_that_alone",
    ),
    defence(
        "mailboxes stay open while somebody knows nothing of tokens",
        "node/engine/delivery_tokens.py",
        "return core.bringers.all_bring_tokens(core.identity.public)",
        "return True",
        f"{_ENGINE}::test_a_mailbox_is_closed_only_when_all_who_may_bring_know_of_tokens",
    ),
)
