"""Of meetings, at relay, common peer and node; and of what others say of our address."""

from __future__ import annotations

from tests.hazards.defence import defence

_RELAY = "tests/relay/test_rendezvous.py"
_NODE = "tests/node/delivery/test_meetings.py"
_OBSERVED = "tests/node/delivery/test_observed.py"
_MEETING = "node/delivery/meeting.py"

MEETINGS = (
    defence(
        "a common peer that tells whom it knows",
        _MEETING,
        "                or not await self._may_know_of(link.peer, request.peer)\n",
        "",
        f"{_NODE}::test_a_common_peer_does_not_say_whom_it_knows",
    ),
    defence(
        "a rendezvous that tells who is here by its haste",
        "relay/rendezvous.py",
        "            await self._wait(until)\n",
        "",
        f"{_RELAY}::test_who_is_not_met_is_not_met_alike",
    ),
    defence(
        "meetings of one caller at a relay",
        "relay/rendezvous.py",
        "        if wait_s:\n",
        "        if False:\n",
        f"{_RELAY}::test_meetings_are_rated_for_each_caller_and_each_target",
    ),
    defence(
        "meetings with one device at a relay",
        "relay/rendezvous.py",
        "        if not self._with.of(peer).take(self._clock()):",
        "        if False:",
        f"{_RELAY}::test_meetings_are_rated_for_each_caller_and_each_target",
    ),
    defence(
        "names instead of addresses in a meeting",
        "schemas/addresses.py",
        '        if not address.is_literal or not address.port or "%" in address.host:',
        "        if False:",
        "tests/schemas/test_addresses.py::test_addresses_from_others_are_few_numeric_and_each_once",
        f"{_RELAY}::test_what_is_no_list_of_numeric_addresses_is_refused[says1]",
    ),
    defence(
        "a meeting with a stranger",
        _MEETING,
        "            if not await ask(Acquainted(device)):",
        "            if False:",
        f"{_NODE}::test_strangers_are_not_met",
    ),
    defence(
        "a meeting of whoever hides its address",
        _MEETING,
        "        if policy not in _DIRECT:",
        "        if policy is None:",
        f"{_NODE}::test_who_hides_its_address_meets_nobody[relay-only]",
        f"{_NODE}::test_who_hides_its_address_meets_nobody[lan-only]",
    ),
    defence(
        "a meeting asked for by whoever hides its address",
        _MEETING,
        "        if peer.policy not in _DIRECT:",
        "        if False:",
        f"{_NODE}::test_who_hides_its_address_meets_nobody[lan-only]",
    ),
    defence(
        "a signaller that sends us to a victim again and again",
        _MEETING,
        "        if self._with_device.take(device) or self._all.take(_EVERYBODY):",
        "        if self._all.take(_EVERYBODY):",
        f"{_NODE}::test_a_lying_relay_makes_us_send_a_bounded_number_of_packets",
    ),
    defence(
        "a signaller that makes up one contact after the other",
        _MEETING,
        "        if self._of_signaller.take(signaller.peer):",
        "        if False:",
        f"{_NODE}::test_a_signaller_has_a_budget_whoever_it_speaks_for",
    ),
    defence(
        "signallers that take turns",
        _MEETING,
        "        if self._with_device.take(device) or self._all.take(_EVERYBODY):",
        "        if self._with_device.take(device):",
        f"{_NODE}::test_all_signallers_together_have_a_budget",
    ),
    defence(
        "a signaller elsewhere that names our own machine",
        _MEETING,
        "                or (is_loopback(host) and not is_loopback(signaller.remote.host))\n",
        "",
        f"{_NODE}::test_loopback_is_for_those_who_are_there",
    ),
    defence(
        "a signaller that names machines of our network, or of any",
        _MEETING,
        "                or not networks.admits(host, hosts)\n",
        "",
        f"{_NODE}::test_only_addresses_that_the_device_can_have_are_dialled",
    ),
    defence(
        "a signaller that names many ports of one host",
        _MEETING,
        "                or per_host[host] >= self._means.limits.meeting_addresses_per_host\n",
        "",
        f"{_NODE}::test_only_addresses_that_the_device_can_have_are_dialled",
        f"{_NODE}::test_a_lying_relay_makes_us_send_a_bounded_number_of_packets",
    ),
    defence(
        "a signaller whom we do not know",
        _MEETING,
        "        if not await self._means.ask(Acquainted(link.peer)):",
        "        if False:",
        f"{_NODE}::test_strangers_bring_nobody_together",
    ),
    defence(
        "a common peer that tells who is online by its haste",
        _MEETING,
        "            await asyncio.sleep(until - loop.time())\n",
        "",
        f"{_NODE}::test_a_common_peer_tells_strangers_nothing",
    ),
    defence(
        "a common peer used by a stranger",
        _MEETING,
        "                or not await means.ask(Acquainted(link.peer))\n",
        "",
        f"{_NODE}::test_a_common_peer_introduces_no_strangers[a]",
    ),
    defence(
        "a common peer asked for a stranger",
        _MEETING,
        "                or not await means.ask(Acquainted(request.peer))\n",
        "",
        f"{_NODE}::test_a_common_peer_introduces_no_strangers[b]",
    ),
    defence(
        "one observer who says that a victim's address is ours",
        "node/delivery/observed.py",
        "            if weight >= _ENOUGH and weight > others",
        "            if weight > others",
        f"{_OBSERVED}::test_one_peer_is_not_and_two_networks_are",
    ),
    defence(
        "many observers of one network",
        "node/delivery/observed.py",
        "        return prefix_of(self.at.host) or bytes(self.observer)",
        "        return bytes(self.observer)",
        f"{_OBSERVED}::test_one_peer_is_not_and_two_networks_are",
    ),
    defence(
        "an address that only one of our peers can use",
        "node/delivery/observed.py",
        "            if weight >= _ENOUGH and weight > others",
        "            if weight >= _ENOUGH",
        f"{_OBSERVED}::test_a_nat_with_another_port_for_each_peer_has_none_for_strangers",
    ),
    defence(
        "strangers who say where they see us",
        "node/delivery/observed.py",
        "        if acquainted:\n",
        "        if True:\n",
        f"{_OBSERVED}::test_strangers_have_no_say",
    ),
    defence(
        "a crowd of observers",
        "node/delivery/observed.py",
        "        if len(self._seen) > self._limits.observers:",
        "        if False:",
        f"{_OBSERVED}::test_a_crowd_of_observers_is_bounded_and_leaves_our_relay_its_place",
    ),
)
