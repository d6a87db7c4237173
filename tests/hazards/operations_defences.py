"""Of an operator's records against whoever enters the machine, and of users against the records."""

from __future__ import annotations

from tests.hazards.defence import Defence, defence

_AUDIT = "tests/relay/store/test_audit.py"
_MOVING = "tests/relay/test_moving.py"

OPERATIONS: tuple[Defence, ...] = (
    defence(
        "a row of the audit log that is missing",
        "relay/store/audit.py",
        "        if row.number != head.number + 1:",
        "        if False:",
        f"{_AUDIT}::test_a_deleted_row_is_missed",
    ),
    defence(
        "a row of the audit log that was changed",
        "relay/store/audit.py",
        "        elif row.hash != next_hash(",
        "        elif False and row.hash != next_hash(",
        f"{_AUDIT}::test_a_changed_row_is_told",
    ),
    defence(
        "another subject in the audit log",
        "relay/store/audit.py",
        "        elif not _subject_holds(row):",
        "        elif False:",
        f"{_AUDIT}::test_it_survives_the_process_and_a_hand_in_the_file_is_told",
    ),
    defence(
        "an audit log that was cut off, or written anew",
        "relay/store/audit.py",
        "            if last > self._head.number:",
        "            if False:",
        f"{_AUDIT}::test_a_lost_end_is_told_by_a_checkpoint_alone",
    ),
    defence(
        "the beginning of an audit log",
        "relay/store/audit.py",
        "        if fault is None and self._begin.number and self._trimmed_to != self._begin:",
        "        if False:",
        f"{_AUDIT}::test_a_beginning_that_somebody_removed_is_told",
    ),
    defence(
        "callers in a relay's log",
        "relay/server.py",
        '        log.debug("it is %r from %s", connection.peer, connection.remote)',
        '        log.info("it is %r from %s", connection.peer, connection.remote)',
        "tests/relay/test_log_privacy.py::test_at_info_nobody_and_nothing_is_named",
    ),
    defence(
        "a certificate whose new file is bad",
        "relay/web_certificate.py",
        "            until = usable_until(self._cert, self._key, self._clock())",
        "            until = self._clock()",
        "tests/relay/test_certificates.py::test_files_that_changed_are_noticed_without_a_signal",
    ),
    defence(
        "metrics that are open by mistake",
        "relay/config.py",
        '    if metrics is not None and not is_loopback(metrics) and not values["metrics_open"]:',
        "    if False:",
        "tests/relay/test_certificates.py::test_metrics_are_open_to_others_on_request_only",
    ),
    defence(
        "root follows no link in another's folder",
        "storage/ownership.py",
        "    flags |= os.O_NOFOLLOW",
        "    flags |= 0",
        "tests/storage/test_ownership.py::test_a_link_in_it_leads_root_nowhere[True]",
    ),
    defence(
        "a relay that was moved away does not start",
        "relay/store/sqlite/database.py",
        "            check_not_moved(writing)\n            backup.revive(writing)",
        "            backup.revive(writing)",
        f"{_MOVING}::test_no_relay_starts_on_what_was_moved_until_it_is_taken_back",
    ),
    defence(
        "what was moved away refuses writes",
        "relay/store/postgres/moved.py",
        "        await connection.execute(_REFUSED.format(table))\n",
        "        pass\n",
        f"{_MOVING}::test_who_starts_while_the_data_move_away_does_not_go_on_with_them",
        f"{_MOVING}::test_a_relay_that_was_silent_while_its_data_moved_away_ends",
    ),
    defence(
        "who announced itself before the move's locks stops it",
        "relay/moving/postgres_side.py",
        "            await self._check_none_lives()  # one may have come before the lock\n",
        "",
        f"{_MOVING}::test_who_announces_itself_before_the_move_has_its_locks_stops_it",
    ),
    defence(
        "new calls while a relay stops",
        "relay/rpc.py",
        "        if self._stopping and method != HEALTH:",
        "        if False:",
        "tests/relay/test_drain.py::test_sigterm_under_load_loses_nothing_and_tells_everybody",
    ),
    defence(
        "what the relay does by itself begins anew",
        "relay/upkeep.py",
        "begun_again(work, partial(self._failed, name))",
        "work()",
        "tests/relay/test_upkeep.py::test_housekeeping_goes_on_after_what_nobody_foresaw[probe]",
    ),
    defence(
        "the operator's business stays in the log",
        "relay/refusals.py",
        "    if not is_for_callers(fault):",
        "    if False:",
        "tests/relay/test_error_codes.py::test_what_befalls_the_machine_is_told_in_general_words",
    ),
    defence(
        "a subscription without a sink",
        "relay/mailbox_methods.py",
        '            if not params._has("sink"):',
        "            if False:",
        "tests/relay/test_subscribe.py::test_a_subscription_that_names_nowhere_to_push_is_refused",
    ),
)
