"""Of relay statements, and of the thread that frees pycapnp's objects."""

from __future__ import annotations

from tests.hazards.defence import defence

_RELAYS = "node/engine/relays.py"
_ENGINE = "tests/node/engine/test_relays.py"
_AT_RELAY = "tests/relay/test_statements.py"

STATEMENTS = (
    defence(
        "a relay statement that somebody else signed, at a node",
        _RELAYS,
        "        statement = open_relay_statement_untrusted(signed)\n",
        "        statement = RelayStatement.decode(signed.payload)\n",
        f"{_ENGINE}::test_a_forged_statement_moves_nothing",
    ),
    defence(
        "an old relay statement, shown again",
        _RELAYS,
        "        return statement.number > max(numbers)",
        "        return True",
        f"{_ENGINE}::test_an_old_statement_is_counted_and_moves_nothing_back",
    ),
    defence(
        "an old relay statement, published again",
        "relay/store/rules.py",
        "    if held is None or number > held[0]:",
        "    if True:",
        f"{_AT_RELAY}::test_replayed_and_older_ones_move_nobody_back",
        "tests/relay/store/test_statements.py",
    ),
    defence(
        "a forged relay statement, at a relay",
        "relay/statement_methods.py",
        "open_relay_statement_untrusted(signed)\n        if signed is None or",
        "__import__('schemas.records').records.RelayStatement.decode(signed.payload)\n"
        "        if signed is None or",
        f"{_AT_RELAY}::test_forged_ones_are_refused_and_counted",
    ),
    defence(
        "a relay that is left while parcels are under way to it",
        _RELAYS,
        "            long_ago = core.now - relay.since >= READ_AT_LEAST_S",
        "            long_ago = True",
        f"{_ENGINE}::test_a_relay_is_not_left_while_parcels_may_be_under_way_to_it",
    ),
    defence(
        "a relay that is left before everybody knows",
        _RELAYS,
        "            all_know = not core.outbox.has_kind(NO_GROUP, KIND)",
        "            all_know = True",
        f"{_ENGINE}::test_a_relay_is_left_when_it_is_empty_and_all_know",
    ),
    defence(
        "objects of the loop that another thread frees",
        "transport/kj.py",
        "        with collecting_here():",
        "        if True:",
        "tests/transport/test_collector.py::test_cycles_are_freed_by_the_thread_of_the_loop",
    ),
)
