"""Of paths: whom we dial, and who learns where we are."""

from __future__ import annotations

from tests.hazards.defence import defence

_POLICIES = "tests/node/delivery/test_policies.py"

PATHS = (
    defence(
        "a private address of another network",
        "discovery/resolver.py",
        "                if not networks.admits(host, beside):",
        "                if False:",
        "tests/discovery/test_resolver.py"
        "::test_a_records_private_address_is_of_use_on_its_own_network_only",
    ),
    defence(
        "hidden from a person: links",
        "node/delivery/path_rules.py",
        '        if policy.hides_address:\n            raise Away("away"',
        '        if False:\n            raise Away("away"',
        f"{_POLICIES}::test_relay_only_hides_us_from_one_person",
    ),
    defence(
        "hidden from a person: our record",
        "node/engine/own_bundle.py",
        "        hidden = self._core.policies.of(reader).hides_address",
        "        hidden = False",
        f"{_POLICIES}::test_relay_only_hides_us_from_one_person",
    ),
    defence(
        "hidden from everybody",
        "node/engine/account.py",
        "        hidden = core.policies.for_all.hides_address",
        "        hidden = False",
        f"{_POLICIES}::test_relay_only_for_everybody_publishes_no_address",
    ),
    defence(
        "two better links at once",
        "node/delivery/links.py",
        "        elif link.generation > old.generation:",
        "        elif False:",
        "tests/node/delivery/test_better_paths.py::test_a_lan_path_takes_over_with_parcels_under_way",
    ),
    defence(
        "two dials of one side",
        "node/delivery/links.py",
        "            if link is not None and link.generation >= generation:",
        "            if False:",
        "tests/node/delivery/test_several_dials.py"
        "::test_a_second_dial_of_one_side_disturbs_nothing_on_the_first",
    ),
    defence(
        "a link goes when both use the other",
        "node/delivery/links.py",
        "            if better is not None:\n",
        "            if False:\n",
        "tests/node/delivery/test_several_dials.py"
        "::test_a_link_stays_until_the_peer_uses_the_one_that_survives",
    ),
    defence(
        "what is asked on a link that goes",
        "node/delivery/link.py",
        " or self._requests)",
        ")",
        "tests/node/delivery/test_several_dials.py"
        "::test_a_link_that_goes_is_kept_for_what_is_asked_on_it",
    ),
    defence(
        "what is pinged on a link that goes",
        "node/delivery/links.py",
        "            await link.ping(deadline_s)  # and",
        "            pass  # and",
        "tests/node/delivery/test_several_dials.py::test_a_link_that_goes_is_kept_for_a_slow_ping",
    ),
)
