"""Against a router that lies or holds us, and whoever on the LAN speaks in its name."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_CODECS = "tests/transport/port_mapping/test_codecs.py"
_MAPPER = "tests/transport/port_mapping/test_mapper.py"
_UPNP = "tests/transport/port_mapping/test_upnp.py"
_NAT = "tests/transport/test_nat.py"

PORT_MAPPING = (
    defence(
        "port mapping: an answer with another nonce",
        "transport/port_mapping/pcp.py",
        "    if (nonce, protocol, internal) != (request.nonce, _UDP, request.port):",
        "    if False:",
        f"{_CODECS}::test_only_the_right_nonce_and_port_are_believed",
        f"{_MAPPER}::test_an_answer_with_another_nonce_is_passed_over_and_the_right_one_taken",
    ),
    defence(
        "port mapping: an answer about another port",
        "transport/port_mapping/nat_pmp.py",
        "    if internal != port:",
        "    if False:",
        f"{_CODECS}::test_what_is_no_nat_pmp_mapping_is_malformed",
    ),
    Defence(
        "port mapping: who answers in the router's place",
        (
            Removal(
                "transport/port_mapping/exchange.py",
                "            remote_addr=(gateway.host, PORT),\n",
                "",
            ),
            Removal(
                "transport/port_mapping/exchange.py",
                "transport.sendto(request)",
                "transport.sendto(request, (gateway.host, PORT))",
            ),
        ),
        (f"{_MAPPER}::test_another_address_cannot_answer_in_the_routers_place",),
    ),
    defence(
        "port mapping: an address that no router has",
        "transport/port_mapping/mapper.py",
        "_checked(grant.external)",
        "grant.external",
        f"{_MAPPER}::test_an_address_that_no_router_has_is_not_believed",
    ),
    defence(
        "port mapping: a flood in place of an answer",
        "transport/port_mapping/exchange.py",
        "            if not self._left:",
        "            if False:",
        f"{_MAPPER}::test_a_flood_of_rubbish_ends_the_question",
    ),
    defence(
        "port mapping: lifetimes of nothing",
        "transport/port_mapping/mapper.py",
        "max(grant.lifetime_s, limits.least_lifetime_s)",
        "grant.lifetime_s",
        f"{_MAPPER}::test_a_lifetime_of_nothing_does_not_make_us_ask_without_end",
    ),
    defence(
        "port mapping: announcements without end",
        "transport/port_mapping/mapper.py",
        "self._asked_at + self._limits.hint_s",
        "self._asked_at",
        f"{_MAPPER}::test_announcements_do_not_make_us_ask_more_often_than_the_limit",
    ),
    defence(
        "port mapping: the end waits for a silent router",
        "transport/port_mapping/mapper.py",
        "            async with asyncio.timeout(self._limits.release_s):",
        "            async with asyncio.timeout(None):",
        f"{_MAPPER}::test_the_end_waits_for_no_silent_router",
        f"{_MAPPER}::test_the_end_in_the_middle_of_asking",
    ),
    defence(
        "UPnP: another device offers itself as the router",
        "transport/port_mapping/ssdp.py",
        "            if addr[0] != self._gateway.host:",
        "            if False:",
        f"{_UPNP}::test_only_the_gateway_is_believed_in_a_flood_of_answers",
    ),
    defence(
        "UPnP: a search in a flood",
        "transport/port_mapping/ssdp.py",
        "            if self._left <= 0:",
        "            if False:",
        f"{_UPNP}::test_a_search_in_a_flood_has_an_end",
    ),
    defence(
        "UPnP: URLs of other hosts",
        "transport/port_mapping/ssdp.py",
        "        or parts.hostname != host\n",
        "",
        f"{_UPNP}::test_it_does_not_make_us_talk_to_others",
        f"{_UPNP}::test_a_url_that_leads_elsewhere",
    ),
    defence(
        "UPnP: redirects to other hosts",
        "transport/port_mapping/igd.py",
        "            allow_redirects=False,\n",
        "",
        f"{_UPNP}::test_it_does_not_make_us_talk_to_others",
    ),
    defence(
        "UPnP: an answer without end",
        "transport/port_mapping/igd.py",
        "        if len(body) > most:",
        "        if False:",
        f"{_UPNP}::test_an_answer_without_end_is_cut",
    ),
    defence(
        "UPnP: a description that names a thousand things",
        "transport/port_mapping/igd.py",
        "self._session is None or self._left < 0",
        "self._session is None",
        f"{_UPNP}::test_a_description_that_names_a_thousand_services_is_not_followed",
    ),
    defence(
        "UPnP: a router that says nothing",
        "transport/port_mapping/igd.py",
        "            timeout=aiohttp.ClientTimeout(total=self._limits.http_s),\n",
        "",
        f"{_UPNP}::test_a_router_that_says_nothing_holds_us_for_the_deadline_only",
    ),
    defence(
        "the kind of NAT: one network with many voices",
        "transport/nat.py",
        "    return prefix_of(observer.host) if _out(observer) else None",
        "    return observer.host.encode() if _out(observer) else None",
        f"{_NAT}::test_a_network_is_heard_once_and_its_last_word_counts",
    ),
    defence(
        "the kind of NAT: neighbours",
        "transport/nat.py",
        "    return prefix_of(observer.host) if _out(observer) else None",
        "    return prefix_of(observer.host)",
        f"{_NAT}::test_neighbours_have_no_say",
    ),
    defence(
        "the kind of NAT: a single liar",
        "transport/nat.py",
        "    if agree > observers - agree:",
        "    if agree == observers:",
        f"{_NAT}::test_mapping",
        f"{_NAT}::test_less_than_half_cannot_change_what_is_found",
    ),
)
