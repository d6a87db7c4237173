"""Of a node: against relays, other nodes, members, its own disk and clock; and in discovery."""

from __future__ import annotations

from tests.hazards.defence import defence

_HOSTILE_PEER = "tests/node/delivery/test_hostile_peer.py"
_HOSTILE_RELAY = "tests/node/delivery/test_hostile_relay.py"
_UNWILLING = "tests/node/delivery/test_unwilling_peer.py"
_AUTHORITY = "tests/node/engine/groups/test_authority.py"
_FLOODS = "tests/node/engine/test_floods.py"
_EXTREME = "tests/node/engine/test_extreme_values.py"
_CLOCK = "tests/node/engine/test_clock.py"
_REQUESTS = "tests/node/engine/test_requests.py"
_SENDING = "tests/node/engine/test_sending.py"

NODE = (
    defence(
        "a hostile relay: what was not asked for",
        "node/delivery/mailbox.py",
        "        if page.parcels and page.parcels[0].sequence <= after:",
        "        if False:",
        f"{_HOSTILE_RELAY}::test_one_hostile_relay_takes_nothing_from_the_other[repeats]",
    ),
    defence(
        "a hostile relay: parcels without end",
        "node/delivery/mailbox.py",
        "            await asyncio.sleep(refused * self._limits.refused_pause_s)",
        "            pass",
        f"{_HOSTILE_RELAY}::test_one_hostile_relay_takes_nothing_from_the_other[endless]",
    ),
    defence(
        "a hostile relay: pages without end",
        "node/delivery/mailbox.py",
        "            for _ in range(self._limits.poll_pages):",
        "            for _ in range(10**9):",
        "tests/node/delivery/test_endless_mailbox.py::test_one_look_has_an_end",
    ),
    defence(
        "a hostile relay: no answer",
        "node/delivery/relay_pool.py",
        "deadline_s=self._limits.relay_call_s)",
        "deadline_s=None)",
        f"{_HOSTILE_RELAY}::test_one_hostile_relay_takes_nothing_from_the_other[never answers]",
    ),
    defence(
        "a hostile relay: hosts in our own network as its processes",
        "node/delivery/relay_processes.py",
        "        if dialable(each) and not (public and _kind(each.host) is AddressKind.LAN)",
        "        if dialable(each)",
        "tests/node/delivery/test_relay_processes.py::test_what_is_followed_of_a_relay_s_word",
    ),
    defence(
        "a peer that acknowledges no parcel: the link ends",
        "node/delivery/link.py",
        "        if now >= oldest + self._limits.ack_deadline_s:",
        "        if False:",
        "tests/node/delivery/test_link.py::test_a_link_without_acks_is_ended",
    ),
    defence(
        "a hostile relay: what is put off",
        "node/delivery/mailbox.py",
        "                if len(self._waiting) >= self._limits.deferred_at_relay:",
        "                if False:",
        "tests/node/delivery/test_endless_mailbox.py::test_what_is_put_off_is_bounded",
    ),
    defence(
        "a peer that acknowledges no parcel, or defers all: its relay",
        "node/delivery/courier.py",
        " or self._patience.at_an_end(self._device)",
        "",
        f"{_UNWILLING}::test_what_nobody_acknowledges_is_left_at_the_relay",
        f"{_UNWILLING}::test_what_is_always_deferred_is_left_at_the_relay",
    ),
    defence(
        "a peer that acknowledges no parcel: a window",
        "node/delivery/courier.py",
        "        limit = min(most, limits.window - len(self._out))",
        "        limit = 10_000",
        f"{_UNWILLING}::test_what_nobody_acknowledges_is_left_at_the_relay",
    ),
    defence(
        "a peer that acknowledges no parcel: not for ever",
        "node/delivery/patience.py",
        "            record.by_relay_until = self._clock() + self._limits.relay_instead_s",
        "            record.by_relay_until = 2.0**40",
        f"{_UNWILLING}::test_the_direct_way_is_tried_again_after_a_while",
    ),
    defence(
        "a peer that reads nothing: summaries",
        "node/delivery/link.py",
        "        if self._summaries >= self._limits.summaries_at_once:",
        "        if False:",
        f"{_HOSTILE_PEER}::test_a_peer_that_reads_nothing_costs_a_bounded_number_of_summaries",
    ),
    defence(
        "a slow reader of events",
        "node/events.py",
        "        if len(self._events) >= self._limit:",
        "        if False:",
        "tests/node/delivery/test_nodes.py::test_a_slow_subscriber_lags_once_and_goes_on",
    ),
    defence(
        "requests of one peer",
        "node/delivery/requests.py",
        "        if wait_s:\n",
        "        if False:\n",
        f"{_HOSTILE_PEER}::test_requests_are_answered_and_rated_per_peer",
    ),
    defence(
        "a parcel for somebody else",
        "node/delivery/link.py",
        "        if parcel.recipient != self._own:",
        "        if False:",
        f"{_HOSTILE_PEER}::test_a_parcel_for_somebody_else_is_refused_and_not_stored",
    ),
    defence(
        "a slow peer is read no further",
        "node/delivery/link.py",
        "            case Deliver(parcel):\n"
        "                self.last_used_at = self._loop.time()\n"
        "                await self._slots.acquire()\n",
        "            case Deliver(parcel):\n"
        "                self.last_used_at = self._loop.time()\n",
        "tests/node/delivery/test_arrivals_at_once.py::test_a_flood_waits_in_the_network",
    ),
    defence(
        "a member's own program: the rules of the group",
        "node/engine/groups/authority.py",
        "    authorise(\n        info,",
        "    (lambda *_: None)(\n        info,",
        "tests/node/engine/test_hostile.py"
        "::test_member_cannot_break_the_rules_with_a_program_of_their_own",
    ),
    defence(
        "a member's own program: the group context",
        "node/engine/groups/authority.py",
        "    if before != after:",
        "    if False:",
        f"{_AUTHORITY}::test_nobody_changes_what_is_not_ours_in_the_group_context",
    ),
    defence(
        "a member's own program: wishes of another group",
        "node/engine/groups/authority.py",
        "    if any(intent.group != change.group_id for intent in intents):",
        "    if False:",
        f"{_AUTHORITY}::test_wishes_of_another_group_or_signed_by_another_make_a_commit_invalid",
    ),
    defence(
        "links of one device",
        "node/delivery/links.py",
        " or self._alive[device] >= self._limits.links_per_device:",
        ":",
        f"{_HOSTILE_PEER}::test_a_device_has_a_bounded_number_of_links",
    ),
    defence(
        "the backlog of a large group: turns",
        "node/delivery/courier.py",
        "        most = limits.take_crowded if self._crowded() else limits.take",
        "        most = limits.take",
        "tests/node/delivery/test_fairness.py::test_one_message_leaves_before_the_backlog_of_a_large_group",
    ),
    defence(
        "future generations: a cap on skipped keys, of a sender",
        "node/engine/arrivals.py",
        "                raise NoRoom from error  # what lies between may come, and this again",
        "                return None",
        f"{_FLOODS}::test_message_too_far_ahead_is_not_lost",
    ),
    defence(
        "early messages: a buffer of bounded size",
        "node/store/messages.py",
        "        if count >= most or size + len(body) > most_bytes:",
        "        if False:",
        f"{_FLOODS}::test_early_flood_of_a_member_is_bounded_and_late_commits_still_count",
        f"{_FLOODS}::test_early_flood_of_large_parcels_is_bounded_in_bytes",
        f"{_FLOODS}::test_flood_of_strangers_leaves_our_groups_alone",
    ),
    defence(
        "strangers: how many requests",
        "node/engine/requests.py",
        "    if core.people.strangers_requests() >= REQUESTS:",
        "    if False:",
        f"{_REQUESTS}::test_one_request_too_many_is_refused_told_and_comes_when_there_is_room",
    ),
    defence(
        "strangers: contacts take no room of theirs",
        "node/store/people.py",
        '                " AND inviter NOT IN (SELECT identity FROM contacts)"\n',
        "",
        f"{_REQUESTS}::test_what_contacts_invite_to_is_not_counted",
    ),
    defence(
        "strangers: what is kept of a request",
        "node/engine/requests.py",
        "    if messages >= MESSAGES or stored + size > BYTES:",
        "    if False:",
        f"{_REQUESTS}::test_messages_of_a_request_are_bounded_and_their_author_told",
        f"{_REQUESTS}::test_large_messages_of_a_request_are_bounded_in_bytes",
    ),
    defence(
        "strangers: friends' mail is not bounded like theirs",
        "node/engine/requests.py",
        " and (row.inviter is None or core.people.contact(row.inviter) is None)",
        "",
        f"{_REQUESTS}::test_messages_in_a_group_of_contacts_wait_as_long_as_it_takes",
    ),
    defence(
        "strangers: early parcels of a request",
        "node/engine/requests.py",
        "    if row is not None and is_of_stranger(core, row):",
        "    if False:",
        f"{_REQUESTS}::test_early_parcels_of_a_request_are_bounded_and_come_when_it_is_their_time",
    ),
    defence(
        "strangers: requests taken back",
        "node/engine/groups/epochs.py",
        "        if is_of_stranger(core, row):",
        "        if False:",
        f"{_REQUESTS}::test_a_request_that_is_taken_back_leaves_nothing",
    ),
    defence(
        "strangers: a refused invitation is told and tried again",
        "node/engine/outbox.py",
        '        if row.kind == "welcome" and code == TOO_MANY_REQUESTS:',
        "        if False:",
        f"{_REQUESTS}::test_one_request_too_many_is_refused_told_and_comes_when_there_is_room",
    ),
    defence(
        "a relay that says that it keeps a parcel for ever",
        "node/engine/outbox.py",
        "        until = min(until, int(row.expires))",
        "        pass",
        f"{_SENDING}::test_a_relay_cannot_say_that_it_keeps_a_message_for_ever",
    ),
    defence(
        "a relay that says so of a message that was delivered",
        "node/engine/outbox.py",
        "min(outcome.held[1], int(taken.expires))",
        "outcome.held[1]",
        f"{_SENDING}::test_a_relay_cannot_say_so_of_a_message_that_was_delivered_meanwhile",
    ),
    defence(
        "a peer whose parcels do not open",
        "node/delivery/link.py",
        "        if not self.closed and self._garbage.take(self.peer):",
        "        if False:",
        f"{_HOSTILE_PEER}::test_parcels_that_do_not_open_end_the_link_and_a_new_one_does_not_help",
    ),
    defence(
        "a peer whose parcels open is heard",
        "node/delivery/link.py",
        "                if garbage:\n",
        "                if True:\n",
        f"{_HOSTILE_PEER}::test_what_opens_and_is_refused_by_a_rule_ends_no_link",
    ),
    defence(
        "made-up branches",
        "node/engine/groups/commits.py",
        "        if count >= FORK_COMMITS or total > FORK_BYTES:",
        "        if False:",
        f"{_FLOODS}::test_made_up_branches_are_bounded",
    ),
    defence(
        "a claim that nobody checked",
        "node/engine/groups/convergence.py",
        "        if not claimed:",
        "        if True:",
        "tests/node/engine/groups/test_insiders.py",
    ),
    defence(
        "wishes without end",
        "node/engine/groups/intents.py",
        "        if known is None and core.intents.open_of(row.id, intent.author) >= OPEN_WISHES:",
        "        if False:",
        f"{_FLOODS}::test_wishes_of_one_member_are_bounded",
    ),
    defence(
        "a commit of one's own: the snapshot before it",
        "node/engine/groups/epochs.py",
        "        core.keep_snapshot(row)\n        before",
        "        if effect.committer.signature_key != core.device.public:\n"
        "            core.keep_snapshot(row)\n"
        "        before",
        "tests/node/engine/test_snapshots.py::test_a_sibling_of_our_own_commit_can_still_be_entered",
    ),
    defence(
        "a clock that jumps ahead is doubted",
        "node/engine/clock.py",
        "            doubted = now if self.believed and now - self.believed > JUMP_S else None",
        "            doubted = None",
        f"{_CLOCK}::test_message_under_way_survives_a_jump_and_the_way_back",
    ),
    defence(
        "a clock that steps back",
        "node/engine/clock.py",
        "        self.went_back = step < -1.0",
        "        self.went_back = False",
        f"{_CLOCK}::test_wishes_and_receipts_are_not_stuck_after_a_step_back",
    ),
    defence(
        "parcels that were seen",
        "node/engine/arrivals.py",
        "            if seen:\n                return values.Accepted(known=True)\n",
        "",
        "tests/node/engine/test_hostile.py::test_replayed_parcel_is_acknowledged_and_shown_once",
    ),
    defence(
        "a parcel under another one's id",
        "node/engine/arrivals.py",
        "            if body.parcel != parcel.id:",
        "            if False:",
        "tests/node/engine/test_relabelled.py::test_a_parcel_counts_under_its_own_id_only",
    ),
    defence(
        "a damaged group",
        "node/engine/arrivals.py",
        "                except (NoRoom, GroupDamaged):",
        "                except NoRoom:",
        "tests/durability/test_damage.py::test_a_damaged_group_leaves_the_others_alone",
    ),
    defence(
        "a second local user: the socket's mode",
        "node/api/control_socket.py",
        "            born.chmod(0o600)\n",
        "            born.chmod(0o666)\n",
        "tests/node/api/test_strangers.py::test_another_local_user_cannot_connect",
        "tests/node/api/test_socket.py::test_the_socket_is_private_whatever_the_umask",
    ),
    defence(
        "a second local user: the mode at birth",
        "node/api/control_socket.py",
        "        nursery.chmod(0o700)\n",
        "        nursery.chmod(0o755)\n",
        "tests/node/api/test_socket.py::test_the_socket_is_never_met_with_a_wider_mode",
    ),
    defence(
        "silent connections at the control socket",
        "node/api/server.py",
        "        self.loop.call_later(HEAD_S, self._end_if_silent)",
        "        pass",
        "tests/node/api/test_strangers.py::test_more_connections_than_allowed_shut_nobody_out_for_good",
    ),
    defence(
        "a full disk undoes the whole batch",
        "node/engine_thread.py",
        "            self._tell(self._refuse, asked, fault)\n        except Exception",
        "            self._tell(self._refuse, asked[:1], fault)\n        except Exception",
        "tests/node/delivery/test_engine_thread.py::test_a_full_disk_refuses_the_whole_batch_and_is_survived",
    ),
    defence(
        "a member: the largest Lamport time",
        "node/engine/conversation.py",
        "min(message.lamport, row.lamport + LAMPORT_STEP)",
        "message.lamport",
        f"{_EXTREME}::test_one_message_moves_the_clock_a_step_and_key_updates_are_drawn",
    ),
    defence(
        "a member: counting past the largest number",
        "node/engine/conversation.py",
        "min(row.lamport + 1, limits.COUNTER)",
        "row.lamport + 1",
        f"{_EXTREME}::test_a_group_that_was_silenced_before_speaks_again",
    ),
    defence(
        "a member: a time that no date has",
        "schemas/messages.py",
        "        unix_time(self.sent_at_ms // 1000)\n",
        "        counter(self.sent_at_ms)\n",
        f"{_EXTREME}::test_a_time_beyond_all_dates_is_refused_and_one_that_is_stored_is_shown",
    ),
    defence(
        "anybody: a time that no date has, shown",
        "schemas/times.py",
        "    return min(max(0.0, seconds), LAST_S)",
        "    return seconds",
        f"{_EXTREME}::test_no_other_number_stops_anybody[held]",
    ),
    defence(
        "anybody: a parcel that never expires",
        "node/engine/arrivals.py",
        "until = core.now + SEEN_S",
        "until = 2.0**53",
        f"{_EXTREME}::test_a_sender_cannot_have_a_parcel_remembered_for_ever",
    ),
)

_RECORD = "tests/discovery/test_record.py"
_RESOLVER = "tests/discovery/test_resolver.py"
_MDNS = "tests/discovery/test_mdns_pure.py"
_LAN_FLOOD = "tests/discovery/test_lan_flood.py"
_LAN_TAGS = "tests/discovery/test_lan_tags.py"
_PROBE = "tests/transport/test_probe.py"
_PRESENCE = "tests/node/delivery/test_lan_presence.py"

DISCOVERY = (
    defence(
        "records: checked on get",
        "discovery/resolver.py",
        "            record = open_endpoint_record_untrusted(signed, now=now)",
        "            record = EndpointRecord.decode(signed.payload)",
        f"{_RESOLVER}::test_a_record_is_checked_again_at_every_get",
        f"{_RESOLVER}::test_a_forged_newer_record_changes_nothing_and_is_counted",
    ),
    defence(
        "records: no life without end",
        "discovery/record.py",
        "    if not 0 < record.expires - record.issued <= limits.ENDPOINT_LIFETIME_S:\n"
        "        raise Malformed(",
        "    if False:\n        raise Malformed(",
        f"{_RECORD}::test_impossible_lifetimes",
    ),
    defence(
        "records: they expire",
        "discovery/record.py",
        "    if record.expires <= now:",
        "    if False:",
        f"{_RECORD}::test_time_bounds",
    ),
    defence(
        "mDNS: the table of peers is bounded",
        "discovery/lan_peers.py",
        "            if len(self._instances) >= self._limit:",
        "            if False:",
        f"{_MDNS}::test_a_flood_is_bounded_and_counted_and_keeps_those_who_came_first",
    ),
    defence(
        "mDNS: a contact's place among strangers",
        "discovery/lan_peers.py",
        "self._last_stranger() if peer.device in self._favoured else None",
        "None",
        f"{_LAN_FLOOD}::test_a_contact_has_a_place_in_a_table_full_of_strangers",
    ),
    defence(
        "mDNS: a flood of names",
        "discovery/lan_names.py",
        "        if not self._waiting and self._bucket.take(now):",
        "        if True:",
        f"{_LAN_FLOOD}::test_names_are_read_at_a_bounded_rate_and_the_others_counted",
    ),
    defence(
        "mDNS: who was left out in a flood",
        "discovery/mdns.py",
        "            self._again_at = loop.call_later(_LOOK_AGAIN_S, self._look_again)",
        "            pass",
        "tests/discovery/test_mdns.py::test_who_was_left_out_in_a_flood_is_found_when_it_is_over",
    ),
    defence(
        "mDNS: a label that is taken",
        "discovery/lan_peers.py",
        '            self.dropped["label-collision"] += 1\n            return events',
        "            events = self.lose(instance)\n            known = None",
        f"{_LAN_FLOOD}::test_nobody_takes_the_label_of_somebody_who_is_there",
    ),
    defence(
        "mDNS: a flood of tags",
        "discovery/lan_tags.py",
        "        if self._bucket.wait_s(at):",
        "        if False:",
        f"{_LAN_TAGS}::test_strangers_cost_a_bounded_number_of_tags",
    ),
    defence(
        "mDNS: tags that are repeated on another day",
        "discovery/lan_tags.py",
        "        if abs(tag.day - day_of(now)) > _DAYS_APART:",
        "        if False:",
        f"{_LAN_TAGS}::test_a_tag_is_of_no_use_under_another_label_or_on_another_day",
    ),
    defence(
        "mDNS: addresses that are not on the link",
        "discovery/mdns_service.py",
        "(loopback if is_loopback(host) else on_link(host))",
        "(loopback or not is_loopback(host))",
        f"{_MDNS}::test_a_neighbour_cannot_send_us_to_addresses_that_are_not_on_the_link",
    ),
    defence(
        "mDNS: a goodbye for somebody else",
        "discovery/mdns.py",
        "            if self._departed.stays(instance) and instance in self._table:",
        "            if False:",
        "tests/discovery/test_mdns.py"
        "::test_a_forged_goodbye_is_taken_back_and_the_next_one_not_believed",
    ),
    defence(
        "probes: a victim that somebody named",
        "transport/probe.py",
        "        for bucket in (self._silent.of(host), self._bucket):",
        "        for bucket in (self._bucket,):",
        f"{_PROBE}::test_a_host_that_never_answered_gets_a_few_and_then_one_in_ten_seconds",
    ),
    defence(
        "probes: all together",
        "transport/probe.py",
        "        for bucket in (self._silent.of(host), self._bucket):",
        "        for bucket in (self._silent.of(host),):",
        f"{_PROBE}::test_all_probes_together_are_bounded",
    ),
    defence(
        "peers on the LAN that were killed",
        "node/delivery/lan_presence.py",
        "                self._mdns.forget(device)",
        "                pass",
        f"{_PRESENCE}::test_a_peer_that_falls_silent_is_gone_and_back_when_it_answers",
        f"{_PRESENCE}::test_a_peer_that_we_are_linked_to_gets_no_probes_and_a_dead_link_is_ended",
    ),
    defence(
        "mDNS: instances that claim one device",
        "discovery/lan_peers.py",
        "            if len(siblings) >= self._limit_per_device:",
        "            if False:",
        f"{_MDNS}::test_a_flood_is_bounded_and_counted_and_keeps_those_who_came_first",
    ),
    defence(
        "a source that floods",
        "discovery/resolver.py",
        "            for lead in leads[:LEADS_PER_SOURCE]:",
        "            for lead in leads:",
        "tests/discovery/test_lead_flood.py::test_few_signatures_are_checked_whatever_comes",
    ),
)
