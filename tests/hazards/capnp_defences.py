"""Against Cap'n Proto as a weapon, in records, frames and calls."""

from __future__ import annotations

from tests.hazards.defence import defence

_RPC = "tests/transport/test_rpc.py"
_FLOW = "tests/transport/test_rpc_flow.py"

CAPNP = (
    defence(
        "capnp bombs: limits of the reader of records and frames",
        "schemas/capnp_codec.py",
        "                traversal_limit_in_words=traversal_words(size),\n"
        "                nesting_limit=NESTING,\n",
        "                traversal_limit_in_words=2**62,\n                nesting_limit=2**30,\n",
        "tests/schemas/test_bombs.py::test_a_list_of_nothings_is_not_walked",
    ),
    defence(
        "capnp bombs: a list is counted before it is touched",
        "schemas/capnp_codec.py",
        '    if len(values) > limit:\n        raise ValueError("list too long")\n',
        "",
        "tests/schemas/test_bombs.py::test_a_list_is_counted_before_it_is_touched",
    ),
    defence(
        "capnp bombs: a frame is capped before it is read",
        "schemas/capnp_codec.py",
        "        if size > self._limit:",
        "        if size < 0:",
        "tests/schemas/test_bombs.py::test_too_long_is_an_error_of_its_own",
    ),
    defence(
        "capnp bombs: a frame's length is looked at before its bytes",
        "transport/frames.py",
        "        if length > self.max_read:",
        "        if length < 0:",
        "tests/transport/test_frames.py::test_too_large_is_refused_before_it_is_read",
    ),
    defence(
        "capnp bombs: limits of the RPC reader of a server",
        "transport/rpc.py",
        "        bootstrap=session.guard(bootstrap.schema, bootstrap),\n"
        "        traversal_limit_in_words=traversal_words(limits.rpc_message),\n"
        "        nesting_limit=limits.rpc_nesting,\n",
        "        bootstrap=session.guard(bootstrap.schema, bootstrap),\n"
        "        traversal_limit_in_words=2**62,\n"
        "        nesting_limit=2**30,\n",
        f"{_RPC}::test_bombs_are_refused",
    ),
    defence(
        "the end of a stream is connection_lost, never eof_received",
        "transport/kj.py",
        "            self._protocol.connection_lost(why)\n",
        "            self._protocol.eof_received()\n",
        "tests/transport/test_rpc_end.py::test_every_end_is_a_lost_connection",
        "tests/transport/test_rpc_end.py::test_so_it_is_in_a_session_with_calls",
    ),
    defence(
        "RPC has no flow limit: the peer is read no further",
        "transport/rpc_tables.py",
        "        if running >= limits.rpc_calls_in_flight or (",
        "        if (",
        f"{_FLOW}::test_a_flood_of_calls_stays_at_the_caller",
    ),
    defence(
        "RPC has no flow limit: calls of ours wait",
        "transport/rpc_session.py",
        "            async with asyncio.timeout(deadline_s), self._slots:",
        "            async with asyncio.timeout(deadline_s):",
        f"{_FLOW}::test_our_own_calls_wait_here",
    ),
    defence(
        "a method that crashes tells nobody where",
        "transport/rpc_guard.py",
        "            raise _told(error, method, book.counters) from None\n",
        "            _told(error, method, book.counters)\n            raise\n",
        f"{_RPC}::test_an_exception_fails_its_call_only_and_stays_at_home",
    ),
)
