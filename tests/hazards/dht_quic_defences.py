"""Against strangers in the DHT, on the wire: what we serve, whom we dial, who learns who we are."""

from __future__ import annotations

from tests.hazards.defence import defence

_QUIC = "tests/discovery/dht/test_quic.py"
_HOSTILE = "tests/discovery/dht/test_quic_hostile.py"
_NODE = "tests/node/delivery/test_dht.py"
_ENGINE = "tests/node/engine/test_dht.py"

DHT_QUIC = (
    defence(
        "DHT wire: one request to a stream",
        "discovery/dht/exchange.py",
        "    if await stream.read(1):\n",
        "    if False:\n",
        f"{_HOSTILE}::test_a_second_request_on_a_stream_closes_the_connection",
    ),
    defence(
        "DHT wire: requests that trickle in",
        "discovery/dht/serving.py",
        "            async with asyncio.timeout(self._limits.frame_s):\n",
        "            async with asyncio.timeout(None):\n",
        f"{_HOSTILE}::test_a_request_that_trickles_in_is_given_up",
    ),
    defence(
        "DHT wire: connections that ask nothing",
        "discovery/dht/serving.py",
        "                async with asyncio.timeout(self._limits.accepted_idle_s):\n",
        "                async with asyncio.timeout(None):\n",
        f"{_HOSTILE}::test_a_connection_that_asks_nothing_is_let_go",
    ),
    defence(
        "DHT wire: requests of a connection at once",
        "discovery/dht/serving.py",
        "                if len(self._running) >= self._limits.streams:\n",
        "                if False:\n",
        f"{_HOSTILE}::test_only_so_many_requests_of_a_connection_at_once",
    ),
    defence(
        "DHT wire: requests of a device in the long run",
        "discovery/dht/serving.py",
        "            if self._server.may_ask(self._connection):\n",
        "            if True:\n",
        f"{_HOSTILE}::test_who_asks_too_often_is_refused_and_then_cut_off",
    ),
    defence(
        "DHT wire: connections of a device",
        "discovery/dht/serving.py",
        "        full = any(self._connected[key] >= cap for key, cap in caps)\n",
        "        full = False\n",
        f"{_HOSTILE}::test_only_so_many_connections_of_a_device",
    ),
    defence(
        "DHT wire: connections in all",
        "discovery/dht/serving.py",
        "len(self._here) >= limits.accepted and",
        "False and",
        f"{_HOSTILE}::test_only_so_many_connections_in_all_and_who_is_idle_makes_room",
    ),
    defence(
        "DHT wire: answers have a deadline",
        "discovery/dht/quic.py",
        "                        async with asyncio.timeout(self._deadline_s(request)):\n",
        "                        async with asyncio.timeout(None):\n",
        f"{_HOSTILE}::test_who_never_answers_costs_a_deadline",
    ),
    defence(
        "DHT wire: a victim named in answers",
        "discovery/dht/connections.py",
        "        if not self._budget.take(address, self._loop.time()):\n",
        "        if False:\n",
        f"{_HOSTILE}::test_a_victim_named_by_any_number_of_contacts_gets_a_few_packets",
    ),
    defence(
        "DHT wire: a victim's network named in answers",
        "discovery/dht/dial_budget.py",
        "        of_prefix = [] if prefix is None else [self._prefixes.of(prefix)]\n",
        "        of_prefix: list[TokenBucket] = []\n",
        f"{_HOSTILE}"
        "::test_dials_to_one_network_and_to_all_that_never_answer_are_bounded_and_answers_are_free",
    ),
    defence(
        "DHT wire: dialling back rarely",
        "discovery/dht/dial_back.py",
        "        if self._dialling or not self._may(asker):\n",
        "        if self._dialling:\n",
        f"{_HOSTILE}::test_only_the_asker_itself_is_dialled_back_and_rarely",
    ),
    defence(
        "DHT wire: dialling back one at a time",
        "discovery/dht/dial_back.py",
        "        if self._dialling or not self._may(asker):\n",
        "        if not self._may(asker):\n",
        f"{_HOSTILE}::test_one_is_dialled_back_at_a_time",
    ),
    defence(
        "DHT: who looks for whom is asked by nobody in particular",
        "discovery/dht/quic.py",
        "self._ask((await self._anonymous())[1], contact, FindValue(key))",
        "self._ask(self._as_device, contact, FindValue(key))",
        f"{_QUIC}::test_only_who_announces_itself_shows_its_device_and_its_port",
    ),
    defence(
        "DHT: nobody in particular is somebody else each hour",
        "discovery/dht/quic.py",
        "            if old is not None and self._loop.time() - self._nobody_since"
        " < self._limits.persona_s:\n",
        "            if old is not None:\n",
        f"{_QUIC}::test_nobody_is_somebody_else_after_an_hour",
    ),
    defence(
        "DHT: lookups of a device are rare",
        "node/delivery/dht_lookups.py",
        "        if last is not None and self._loop.time() < last.until:\n",
        "        if False:\n",
        f"{_NODE}::test_a_device_is_not_looked_up_again_and_again",
    ),
    defence(
        "DHT: who hides asks nobody",
        "node/delivery/dht.py",
        "        self._hidden = start.hides_address\n",
        "        self._hidden = False\n",
        f"{_NODE}::test_who_hides_their_address_asks_nobody_and_is_asked_by_nobody",
    ),
    defence(
        "DHT: nothing is published while we hide from anybody",
        "node/engine/dht.py",
        "        if record is None or core.policies.hides:\n",
        "        if record is None:\n",
        f"{_ENGINE}::test_nothing_is_published_while_our_address_is_hidden_from_anybody",
    ),
    defence(
        "DHT: blocking rotates the discovery secret",
        "node/engine/blocking.py",
        "            core.people.set_secret(DISCOVERY_SECRET, core.random(SECRET_LENGTH))\n",
        "",
        f"{_ENGINE}::test_whom_we_block_does_not_find_us_any_more",
    ),
)
