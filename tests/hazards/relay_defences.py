"""Of a relay against its users, its disk and its clock; of SQLite as both open it."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_DESK = "tests/relay/test_call_desk.py"
_FAILING_FSYNC = "tests/durability/test_failing_fsync.py"
_TAKEN = "tests/durability/test_files_taken.py"

RELAY = (
    defence(
        "abandoned fetchWaits: a number per connection",
        "relay/mailbox_methods.py",
        "        if caller.waits >= self._callers.limits.waits_per_connection:",
        "        if False:",
        "tests/relay/test_fetch.py::test_a_thousand_abandoned_waits_leave_nothing",
    ),
    defence(
        "streams per connection of a relay",
        "relay/server.py",
        "                if len(streams) >= self._service.callers.limits.streams_per_connection:",
        "                if False:",
        f"{_DESK}::test_too_many_streams_are_refused_and_the_others_live",
    ),
    defence(
        "connections of one device at a relay",
        "relay/callers.py",
        "        if len(self._devices.get(device, ())) >= limits.connections_per_device:",
        "        if False:",
        "tests/relay/test_abuse.py::test_connections_are_capped_by_device_prefix_and_in_all",
    ),
    defence(
        "connections of one prefix at a relay",
        "relay/places.py",
        "            and held >= self._limits.connections_per_prefix\n",
        "            and False\n",
        "tests/relay/test_abuse.py::test_connections_are_capped_by_device_prefix_and_in_all",
    ),
    defence(
        "channels that others make are not the victim's",
        "relay/store/sqlite/channels.py",
        'FROM channels WHERE maker = ?"',
        'FROM channels WHERE ? IN (low, high)"',
        "tests/relay/store/test_channels.py"
        "::test_channels_that_others_make_do_not_count_for_the_victim[sqlite]",
    ),
    defence(
        "anonymous connections hold the places of others",
        "relay/places.py",
        "        unused = min(anonymous, key=lambda caller: caller.used_at, default=None)",
        "        unused = None",
        "tests/relay/test_abuse.py::test_anonymous_connections_make_room_and_take_no_members_place",
        "tests/relay/test_abuse.py"
        "::test_a_village_writes_and_reads_while_somebody_there_holds_places",
    ),
    defence(
        "calls and bytes at a relay",
        "relay/callers.py",
        "for bucket in self._buckets])\n        if wait_s:\n",
        "for bucket in self._buckets])\n        if False:\n",
        "tests/relay/test_abuse.py::test_a_flood_of_calls_or_bytes_is_told_to_come_later",
    ),
    defence(
        "subscriptions of one device",
        "relay/subscriptions.py",
        "            or len(self._devices.get(caller.device, ()))"
        " >= self._limits.subscriptions_per_device\n",
        "",
        "tests/relay/test_subscribe.py::test_subscriptions_are_capped",
    ),
    defence(
        "the room of strangers",
        "relay/store/sqlite/usage.py",
        "        return self.usage.strangers_bytes + size <= share",
        "        return True",
        "tests/relay/test_abuse.py::test_made_up_recipients_do_not_take_the_room_of_known_ones",
    ),
    defence(
        "a mailbox opens to its own device only",
        "relay/mailbox_methods.py",
        "    if name.recipient != call.device:",
        "    if False:",
        "tests/relay/test_methods.py::test_a_mailbox_opens_to_its_own_device_only",
        "tests/relay/test_fetch.py::test_only_the_owner_fetches",
        "tests/relay/test_subscribe.py::test_only_the_owner_subscribes",
    ),
    defence(
        "a refusal that tells whether there is a mailbox",
        "relay/mailbox_methods.py",
        "        await self._require_own(call, name)\n"
        "        await self._open(call, name)\n"
        "        self._answer(",
        "        await self._open(call, name)\n"
        "        await self._require_own(call, name)\n"
        "        self._answer(",
        "tests/relay/test_same_refusal.py"
        "::test_a_strangers_mailbox_looks_the_same_full_empty_or_unknown[peek]",
    ),
    defence(
        "a slow subscriber",
        "relay/mailbox_methods.py",
        "deadline_s=PUSH_DEADLINE_S)",
        "deadline_s=None)",
        "tests/relay/test_subscribe.py::test_a_sink_that_does_not_return_ends_its_subscription",
    ),
    defence(
        "rows that the disk flipped",
        "relay/store/sqlite/mailboxes.py",
        "        if zlib.crc32(sealed) != checksum:",
        "        if False:",
        "tests/relay/test_disk.py::test_bytes_that_the_disk_flipped_are_never_served_and_block_nothing",
    ),
    defence(
        "a relay's clock that jumps",
        "relay/clock.py",
        "            self._until = now + DOUBT_S",
        "            pass",
        "tests/relay/test_disk.py::test_a_clock_that_jumped_ahead_deletes_nothing_for_a_while",
    ),
    defence(
        "a disk that is behind",
        "relay/store/sqlite/writer.py",
        "        if self._queued_bytes + cost > QUEUED_BYTES:",
        "        if False:",
        "tests/relay/test_group_commit.py::test_a_disk_that_is_behind_refuses_instead_of_filling_memory",
    ),
    defence(
        "restored data that give a number again",
        "relay/store/postgres/schema.py",
        "        if before is not None:\n            await _revive(connection)",
        "        pass",
        "tests/relay/store/test_postgres.py::test_restored_data_give_no_number_and_no_key_package_again",
    ),
    defence(
        "a PostgreSQL that does not sync",
        "relay/store/postgres/connecting.py",
        '    if fsync != "on" or commit not in',
        "    if False and commit not in",
        "tests/relay/store/test_postgres.py::test_a_server_that_does_not_sync_is_refused",
    ),
    defence(
        "processes that write to a mailbox at once",
        "relay/store/postgres/migrations/0001_first.sql",
        "            ORDER BY m.recipient, m.channel FOR NO KEY UPDATE;\n        GET DIAGNOSTICS",
        "            ORDER BY m.recipient, m.channel;\n        GET DIAGNOSTICS",
        "tests/relay/store/test_postgres.py::test_processes_that_write_at_once_give_each_number_once",
    ),
    defence(
        "one key package asked for at two processes",
        "relay/store/postgres/key_packages.py",
        "    await lock(connection, _LOCK, key)\n    before =",
        "    before =",
        "tests/relay/store/test_postgres.py::test_a_key_package_is_given_once_by_whichever_process",
    ),
    defence(
        "a connection that wakes nobody any more",
        "relay/store/postgres/wakeups.py",
        "                    self._arrivals.wake_all()\n",
        "",
        "tests/relay/store/test_postgres.py::test_the_server_goes_and_comes_back",
    ),
    defence(
        "a database that is taken away while a relay runs",
        "relay/store/sqlite/writer.py",
        "                self._check()\n",
        "",
        "tests/relay/test_real_disk.py::test_nothing_is_acknowledged_into_a_file_that_is_gone",
    ),
    defence(
        "readers of metrics: a number",
        "relay/http.py",
        "        if len(self._tasks) >= REQUESTS:",
        "        if False:",
        "tests/relay/test_http.py::test_one_request_too_many_is_cut_off_at_once",
    ),
    defence(
        "made-up mailboxes",
        "relay/store/sqlite/usage.py",
        "self.usage.mailboxes >= self.quotas.total_mailboxes or self.usage.strangers >= strangers:",
        "self.usage.mailboxes >= self.quotas.total_mailboxes:",
        "tests/relay/test_abuse.py::test_made_up_mailboxes_are_bounded_in_number_and_go_when_they_are_empty",
    ),
)

STORAGE = (
    defence(
        "WAL with synchronous=NORMAL",
        "storage/sqlite.py",
        '            connection.pragma("synchronous", "full")',
        '            connection.pragma("synchronous", "normal")',
        "tests/storage/test_storage.py::test_a_live_connection_syncs_every_commit",
    ),
    Defence(
        "WAL with synchronous=NORMAL, unchecked",
        (
            Removal(
                "storage/sqlite.py",
                '            connection.pragma("synchronous", "full")',
                '            connection.pragma("synchronous", "normal")',
            ),
            Removal("storage/sqlite.py", "            check_durable(connection, mode)\n", ""),
        ),
        ("tests/durability/test_live_pragmas.py::test_every_commit_is_synced",),
    ),
    Defence(
        "a relay that does not sync what it says it holds",
        (
            Removal(
                "storage/sqlite.py",
                '            connection.pragma("synchronous", "full")',
                '            connection.pragma("synchronous", "off")',
            ),
            Removal("storage/sqlite.py", "            check_durable(connection, mode)\n", ""),
        ),
        (f"{_FAILING_FSYNC}::test_a_relay_holds_nothing_that_was_not_synced[recovers]",),
    ),
    defence(
        "a relay's database that is replaced under it",
        "relay/store/sqlite/database.py",
        "            check=in_place.check,\n",
        "",
        "tests/relay/test_real_disk.py::test_nothing_is_acknowledged_into_a_file_that_is_gone",
    ),
    Defence(
        "a node's database that is replaced under it",
        (
            Removal(
                "node/store/database.py",
                "                yield\n                self._check_in_place()\n",
                "                yield\n",
            ),
            Removal(
                "node/store/database.py",
                "            self._check_in_place()\n        except",
                "        except",
            ),
        ),
        (
            f"{_TAKEN}::test_a_node_accepts_and_acknowledges_nothing_into_a_file_that_is_gone",
            f"{_TAKEN}::test_a_file_taken_in_the_moment_of_the_commit_is_noticed",
        ),
    ),
    defence(
        "a commit that could not be synced stands in the log",
        "storage/sqlite.py",
        "            _overwrite_undone(connection)\n",
        "            pass\n",
        f"{_FAILING_FSYNC}::test_what_was_refused_is_not_sent_by_the_next_process",
    ),
    defence(
        "an old log is settled before a node starts on it",
        "node/home.py",
        "        settle_log(connection)\n",
        "",
        "tests/durability/test_old_log.py::test_an_old_log_is_settled",
    ),
    defence(
        "an old log is settled before a relay starts on it",
        "relay/store/sqlite/database.py",
        "        settle_log(writing)\n",
        "",
        "tests/durability/test_old_log.py::test_an_old_log_is_settled",
    ),
)
