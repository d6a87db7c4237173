"""Of blobs: what a relay checks before anybody reads one, and what a reader checks."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_METHODS = "tests/relay/test_blobs.py"
_STORE = "tests/relay/store/test_blobs.py"
_SEALED = "tests/identity/test_sealed_blob.py"
_NODE = "tests/node/delivery/test_blobs.py"
_SQL = "relay/store/sqlite/blobs.py"

_MEMORY = "tests/relay/test_memory.py"

MEMORY = (
    defence(
        "calls while too much is held",
        "relay/rpc.py",
        "        if line.caller.memory.full and method != HEALTH:",
        "        if False:",
        f"{_MEMORY}::test_calls_are_refused_while_there_is_too_much_and_health_answers",
    ),
    defence(
        "long messages that are never all there",
        "transport/rpc_tables.py",
        "        if change and not self._note(change) and change > 0 and size > _SMALL:",
        "        if False:",
        f"{_MEMORY}::test_a_long_message_is_not_collected_while_there_is_no_room",
    ),
    defence(
        "messages that stay unfinished",
        "transport/kj.py",
        "            async with asyncio.timeout_at(until):",
        "            async with asyncio.timeout_at(None):",
        f"{_MEMORY}::test_a_message_that_stays_unfinished_has_a_deadline",
    ),
    defence(
        "memory: one place holds all of it",
        "relay/callers.py",
        "            share = self._shares[prefix] = Memory(most, of=self.memory)",
        "            share = self._shares[prefix] = Memory(most * 10**6, of=self.memory)",
        f"{_MEMORY}::test_one_place_holds_a_share_of_the_memory",
    ),
    defence(
        "sinks that hold all of the memory",
        "relay/subscriptions.py",
        '                    self._end(slowest, "sink-too-slow")',
        "                    pass",
        f"{_MEMORY}::test_the_slowest_sink_makes_room_for_the_others",
    ),
    defence(
        "a mailbox that many flood",
        "relay/mailbox_methods.py",
        "            self._callers.check_brought(item)\n",
        "            pass\n",
        f"{_MEMORY}::test_many_senders_meet_the_rate_of_one_mailbox",
    ),
    defence(
        "a mailbox that is flooded without a delivery token",
        "relay/mailbox_methods.py",
        "            if isinstance(outcome, Enqueued):\n                self._callers.use_brought",
        "            if True:\n                self._callers.use_brought",
        "tests/relay/test_delivery_tokens.py"
        "::test_a_flood_without_a_token_does_not_shut_a_guarded_mailbox",
    ),
)

BLOBS = (
    defence(
        "a blob that is not what its id says",
        "relay/blob_methods.py",
        "            if found != blob:",
        "            if False:",
        f"{_METHODS}::test_a_wrong_whole_is_refused_at_its_last_chunk_and_forgotten",
    ),
    defence(
        "a chunk that is none",
        "relay/blob_methods.py",
        "    if not total or (chunk and (offset % BLOB_CHUNK or len(chunk) != there)):",
        "    if False:",
        f"{_METHODS}::test_what_is_no_chunk_of_a_blob",
    ),
    defence(
        "a blob of which a part is there",
        _SQL,
        "WHERE id = ? AND whole AND expires > ?",
        "WHERE id = ? AND expires > ?",
        f"{_METHODS}::test_it_goes_up_and_down_and_is_whole_before_anybody_sees_it",
        f"{_STORE}::test_nobody_reads_what_is_not_finished[sqlite]",
    ),
    defence(
        "an upload that another device spoils",
        _SQL,
        '" WHERE device = ? AND id = ? AND expires > ?"',
        '" WHERE (device = ? OR 1) AND id = ? AND expires > ?"',
        f"{_METHODS}::test_another_device_cannot_spoil_an_upload",
    ),
    defence(
        "chunks that the disk flipped",
        _SQL,
        "    if found is None or zlib.crc32(found[0]) != found[1]:",
        "    if found is None:",
        f"{_METHODS}::test_a_flipped_chunk_is_never_served",
    ),
    defence(
        "blobs of one device",
        "relay/store/rules.py",
        "    if uploads >= quotas.device_blobs or reserved + total > quotas.device_blob_bytes:",
        "    if False:",
        f"{_METHODS}::test_quotas_of_a_device_and_of_the_relay",
        f"{_STORE}::test_quotas[sqlite]",
    ),
    defence(
        "blobs of strangers",
        "relay/store/rules.py",
        "        not stranger or strangers + added <= int(most * quotas.strangers_share)",
        "        True",
        f"{_METHODS}::test_quotas_of_a_device_and_of_the_relay",
        f"{_STORE}::test_strangers_share_a_part_of_the_room[sqlite]",
    ),
    defence(
        "a blob that is verified without end",
        "relay/blob_methods.py",
        "        if upload in self._verifying:",
        "        if False:",
        f"{_METHODS}::test_one_that_vanishes_while_it_is_verified_asks_again",
    ),
    Defence(
        "a sealed blob that is cut off",
        (
            Removal("identity/sealed_blob.py", "last=index + 1 == number", "last=False"),
            Removal("identity/sealed_blob.py", "last=following is None", "last=False"),
            Removal("identity/sealed_blob.py", "    if left:\n        raise _damaged()\n", ""),
        ),
        (f"{_SEALED}::test_what_was_changed_moved_or_cut_off_does_not_open",),
    ),
    defence(
        "a relay that shows another blob",
        "node/delivery/blobs.py",
        "    if digest.digest() != blob.id:",
        "    if False:",
        f"{_NODE}::test_a_download_goes_on_from_what_a_file_holds",
    ),
    defence(
        "a relay that takes chunk after chunk and has none",
        "node/delivery/blobs.py",
        "        if offset > self._best:",
        "        if True:",
        f"{_NODE}::test_a_relay_that_takes_nothing_is_not_asked_for_ever",
    ),
)
