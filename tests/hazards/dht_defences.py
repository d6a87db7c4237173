"""Against strangers in the DHT: whom we ask, whom we know, what we keep and believe."""

from __future__ import annotations

from tests.hazards.defence import defence

_ATTACKS = "tests/discovery/dht/test_attacks.py"
_KEPT = "tests/discovery/dht/test_attacks_kept.py"
_TABLE = "tests/discovery/dht/test_table.py"
_STORE = "tests/discovery/dht/test_store.py"
_LOOKUP = "tests/discovery/dht/test_lookup.py"
_CELL = "tests/discovery/dht/test_publication.py"

DHT = (
    defence(
        "DHT: few of one network in a bucket",
        "discovery/dht/table.py",
        "        return _of_prefix(self.nodes, contact) < self._limits.per_prefix\n",
        "        return True\n",
        f"{_TABLE}::test_a_thousand_of_one_network_have_two_places",
    ),
    defence(
        "DHT: few of one network on a path",
        "discovery/dht/shortlist.py",
        "                if prefixes[contact.prefix] >= self._per_prefix:\n"
        "                    continue\n",
        "",
        f"{_ATTACKS}::test_a_path_asks_few_of_one_network",
    ),
    defence(
        "DHT: few of one network among those who keep a value",
        "discovery/dht/node.py",
        "        return few_of_each_prefix(outcome.answered, self._limits.per_prefix)\n",
        "        return outcome.answered\n",
        f"{_ATTACKS}::test_nor_do_they_take_what_is_published",
    ),
    defence(
        "DHT: paths are disjoint, and there are three",
        "discovery/dht/lookup.py",
        "            for number in range(limits.paths)\n",
        "            for number in range(1)\n",
        f"{_ATTACKS}::test_an_eclipsing_neighbour_leads_one_path_astray",
    ),
    defence(
        "DHT: half of a path's nearest are from one root's word at most",
        "discovery/dht/shortlist.py",
        "        self._per_root = maxsize // 2\n",
        "        self._per_root = maxsize\n",
        f"{_ATTACKS}::test_a_liars_friends_are_not_all_that_a_path_sees",
    ),
    defence(
        "DHT: nobody is asked on two paths",
        "discovery/dht/shortlist.py",
        "            if not ours and (contact.id in asked or contact in asked):\n"
        "                continue\n",
        "",
        f"{_ATTACKS}::test_nobody_is_asked_on_two_paths",
    ),
    defence(
        "DHT: a lookup has a number of messages",
        "discovery/dht/lookup.py",
        "            if self._messages == self._limits.lookup_messages:\n",
        "            if self._messages == 10 * self._limits.lookup_messages:\n",
        f"{_ATTACKS}::test_endless_closer_nodes_have_an_end",
    ),
    defence(
        "DHT: a lookup has an end in time",
        "discovery/dht/lookup.py",
        "asyncio.timeout(self._limits.lookup_s)",
        "asyncio.timeout(None)",
        f"{_ATTACKS}::test_who_answers_late_each_time_is_left_at_the_end_of_time",
    ),
    defence(
        "DHT: an answer holds few contacts and values",
        "discovery/dht/node.py",
        "            values = answer.values[:DHT_VALUES]\n",
        "            values = answer.values\n",
        f"{_ATTACKS}::test_an_oversized_answer_is_cut",
    ),
    defence(
        "DHT: a private address means something on our network only",
        "discovery/dht/contact.py",
        "            return contact if on_our_network(contact.address) else None\n",
        "            return contact\n",
        f"{_ATTACKS}::test_nobody_has_us_dial_into_our_own_network",
    ),
    defence(
        "DHT: loopback is told by this machine only",
        "discovery/dht/contact.py",
        "            return contact if place_of(teller.host)[0] is Reach.MACHINE else None\n",
        "            return contact\n",
        f"{_ATTACKS}::test_nobody_has_us_dial_into_our_own_network",
    ),
    defence(
        "DHT: strangers are not told of our network",
        "discovery/dht/node.py",
        "            if contact.device != asker.device and worth_telling(contact, asker.address)\n",
        "            if contact.device != asker.device\n",
        f"{_ATTACKS}::test_our_neighbours_are_not_told_to_strangers",
    ),
    defence(
        "DHT: who announces itself is asked first",
        "discovery/dht/node.py",
        "        elif self._table.wants(contact) and not self._newcomers.add(contact):\n",
        "        elif self._table.answered(contact, 0.0):  # type: ignore[func-returns-value]\n",
        f"{_KEPT}::test_who_announces_itself_is_asked_before_it_is_known",
    ),
    defence(
        "DHT: announcements are bounded",
        "discovery/dht/newcomers.py",
        '        if full or self._by_prefix[contact.prefix or b""] >= self._limits.per_prefix:\n'
        "            return False\n",
        "",
        f"{_KEPT}::test_announcements_without_end_are_bounded",
    ),
    defence(
        "DHT: who waits for a place is not greeted again",
        "discovery/dht/table.py",
        " and contact.id not in waiting\n",
        "\n",
        f"{_KEPT}::test_two_full_tables_do_not_greet_each_other_for_ever",
    ),
    defence(
        "DHT: who was let in by its own request to its NAT is not told of",
        "discovery/dht/table.py",
        "        return self.answered - self.first >= after_s\n",
        "        return True\n",
        f"{_TABLE}::test_only_who_answers_after_its_nat_forgot_is_told_first",
    ),
    defence(
        "DHT: without a network nobody is forgotten",
        "discovery/dht/table.py",
        " and self._last_answer >= seen.failed_since:\n",
        ":\n",
        f"{_TABLE}::test_without_a_network_nobody_is_forgotten",
    ),
    defence(
        "DHT: a failure at an address that somebody made up is not the contact's",
        "discovery/dht/table.py",
        "        if seen is None or self.get(contact.id) != contact:\n",
        "        if seen is None:\n",
        f"{_TABLE}::test_a_failure_at_another_address_is_not_theirs",
    ),
    defence(
        "DHT: a wrong address does not hide the right one",
        "discovery/dht/lookup.py",
        "            self._asked.discard(contact.id)\n",
        "",
        f"{_LOOKUP}::test_a_wrong_address_told_first_does_not_hide_the_right_one",
    ),
    defence(
        "DHT values: the signature, on put",
        "discovery/dht/store.py",
        "            check_signature_untrusted(value)\n",
        "            pass\n",
        f"{_STORE}::test_a_forged_value_is_refused",
    ),
    defence(
        "DHT values: the signature, on get",
        "discovery/dht/publication.py",
        "    check_signature_untrusted(value)\n",
        "",
        f"{_KEPT}::test_bad_values_are_refused_on_put_and_on_get",
    ),
    defence(
        "DHT values: the signature is of this kind",
        "schemas/records.py",
        '    DHT_VALUE = "dht value"\n',
        '    DHT_VALUE = "statement"\n',
        f"{_STORE}::test_another_kind_of_signature_is_none",
    ),
    defence(
        "DHT values: the size",
        "schemas/dht.py",
        "payload, limit=limits.DHT_VALUE, what",
        "payload, limit=2**30, what",
        f"{_STORE}::test_an_oversized_value_is_refused",
    ),
    defence(
        "DHT values: the place",
        "discovery/dht/value.py",
        "    if read.cell != key:\n",
        "    if read.cell == 0:\n",
        f"{_STORE}::test_a_value_for_another_place_is_refused",
    ),
    defence(
        "DHT values: the end",
        "discovery/dht/value.py",
        "    if read.expires <= now:\n",
        "    if read.expires <= 0:\n",
        f"{_STORE}::test_an_expired_value_is_refused",
    ),
    defence(
        "DHT values: the far future",
        "discovery/dht/value.py",
        "    if read.issued > now + CLOCK_SKEW_S:\n",
        "    if read.issued > 2**60:\n",
        f"{_STORE}::test_a_far_future_value_is_refused",
    ),
    defence(
        "DHT values: 48 hours",
        "discovery/dht/value.py",
        "    if not 0 < read.expires - read.issued <= ENDPOINT_LIFETIME_S:\n",
        "    if read.expires < 0:\n",
        f"{_STORE}::test_an_endless_value_is_refused",
    ),
    defence(
        "DHT values: no way back",
        "discovery/dht/store.py",
        "        if known is not None and not age.newer_than(known.age):\n",
        "        if known is not None and known.age is None:\n",
        f"{_STORE}::test_a_newer_value_replaces_and_an_older_one_does_not",
    ),
    defence(
        "DHT values: a full cell refuses newcomers",
        "discovery/dht/store.py",
        "        if not public and len(beside) >= limits.cell_values:\n",
        "        if not public and len(beside) >= 100 * limits.cell_values:\n",
        f"{_STORE}::test_a_full_cell_refuses_newcomers_and_keeps_the_owners",
        f"{_KEPT}::test_a_contact_fills_the_cell_and_the_owner_is_still_found",
    ),
    defence(
        "DHT values: few of one network in a cell",
        "discovery/dht/store.py",
        "            if not public and alike >= limits.per_prefix:\n",
        "            if not public and alike >= 100 * limits.per_prefix:\n",
        f"{_STORE}::test_one_network_does_not_fill_a_cell",
    ),
    defence(
        "DHT values: one network has a share of all",
        "discovery/dht/store.py",
        "            if self._by_prefix[prefix] >= limits.values_per_prefix:\n",
        "            if self._by_prefix[prefix] >= 100 * limits.values_per_prefix:\n",
        f"{_STORE}::test_one_network_does_not_fill_the_store",
    ),
    defence(
        "DHT values: so many and no more",
        "discovery/dht/store.py",
        "        if self._count >= limits.values:\n",
        "        if self._count >= 100 * limits.values:\n",
        f"{_STORE}::test_a_full_store_refuses_and_keeps",
    ),
    defence(
        "DHT values: whose record is inside",
        "discovery/dht/publication.py",
        "    if value.signer != device:\n",
        '    if value.signer == b"":\n',
        f"{_CELL}::test_what_a_contact_puts_into_the_cell_is_not_believed",
    ),
    defence(
        "DHT values: a number that tells nothing",
        "discovery/dht/publication.py",
        "        sequence = int(now * 1000)\n",
        "        sequence = EndpointRecord.decode(record.payload).sequence\n",
        f"{_CELL}::test_nothing_of_the_record_shows_outside",
    ),
    defence(
        "DHT values: each is checked once for a lookup",
        "discovery/dht/node.py",
        "            if value not in checked:\n",
        "            if True:\n",
        f"{_KEPT}::test_a_value_is_checked_once_however_often_it_is_told",
    ),
    defence(
        "DHT: a client answers nobody",
        "discovery/dht/node.py",
        "        if not self.server:\n",
        "        if self.server is None:\n",
        f"{_KEPT}::test_a_client_answers_nobody",
    ),
)
