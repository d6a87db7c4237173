"""What a peer can make Cap'n Proto's RPC system keep: the bounds of transport/rpc_tables.py."""

from __future__ import annotations

from tests.hazards.defence import Defence, Removal, defence

_ATTACKS = "tests/transport/test_rpc_accounting.py"
_TABLES = "transport/rpc_tables.py"

RPC_TABLES = (
    defence(
        "RPC answers: a number without Return and Finish",
        _TABLES,
        "        if self.answers >= self._most:",
        "        if self.answers < 0:",
        f"{_ATTACKS}::test_questions_that_are_never_finished",
        f"{_ATTACKS}::test_failed_calls_that_are_never_finished",
        f"{_ATTACKS}::test_bootstraps_that_nobody_reads",
    ),
    Defence(
        "RPC answers: they count until they have left, and calls in flight wait for it",
        (
            Removal(
                _TABLES, "        if running >= limits.rpc_calls_in_flight or (", "        if ("
            ),
            Removal(
                _TABLES,
                "            running and self._bytes + size > limits.rpc_call_bytes",
                "            False",
            ),
            Removal(_TABLES, "        if self.answers >= self._most:", "        if False:"),
        ),
        (f"{_ATTACKS}::test_answers_that_nobody_reads",),
    ),
    Defence(
        "RPC messages: too large is known before it is read (the library takes four times it)",
        (
            Removal("transport/rpc_messages.py", "    if end - start > most:", "    if False:"),
            Removal(
                "transport/rpc.py",
                "        bootstrap=session.guard(bootstrap.schema, bootstrap),\n"
                "        traversal_limit_in_words=traversal_words(limits.rpc_message),\n",
                "        bootstrap=session.guard(bootstrap.schema, bootstrap),\n"
                "        traversal_limit_in_words=2**62,\n",
            ),
        ),
        ("tests/transport/test_rpc.py::test_a_message_over_the_limit_ends_the_stream",),
    ),
    defence(
        "RPC calls: the bytes of their parameters",
        _TABLES,
        "            running and self._bytes + size > limits.rpc_call_bytes",
        "            False",
        f"{_ATTACKS}::test_large_parameters_of_calls_that_wait",
    ),
    defence(
        "RPC calls: methods that run on after their answer has left",
        _TABLES,
        "max(len(self._running), self.methods)",
        "len(self._running)",
        f"{_ATTACKS}::test_methods_that_ignore_that_they_were_given_up",
    ),
    defence(
        "RPC pipelining: on the bootstrap object only",
        _TABLES,
        "        if message.promised is not None and message.promised not in self._bootstraps:",
        "        if False:",
        f"{_ATTACKS}::test_calls_on_the_answer_of_a_call_that_waits",
    ),
    defence(
        "RPC kinds: no tail calls, third parties, promises, fields of promises",
        _TABLES,
        "        if not message.plain:",
        "        if False:",
        f"{_ATTACKS}::test_calls_of_a_kind_that_nobody_needs",
        f"{_ATTACKS}::test_an_answer_to_no_question[takeFromOtherQuestion]",
    ),
    defence(
        "RPC kinds: no resolve, disembargo, provide, accept, join",
        _TABLES,
        "        elif kind not in _PASSED:",
        "        elif False:",
        f"{_ATTACKS}::test_messages_of_a_kind_that_nobody_needs",
    ),
    defence(
        "RPC capabilities: a number in one message",
        _TABLES,
        "        if message.capabilities > self._limits.rpc_capabilities:",
        "        if False:",
        f"{_ATTACKS}::test_more_capabilities_than_anybody_needs",
    ),
    defence(
        "RPC questions: a number is used once at a time",
        _TABLES,
        "        if question in self._running or question in self._unfinished:",
        "        if False:",
        f"{_ATTACKS}::test_a_number_that_is_in_use",
    ),
    defence(
        "RPC questions of ours that are never answered",
        _TABLES,
        "            if len(self._asked) > self._most:",
        "            if False:",
        f"{_ATTACKS}::test_a_peer_that_never_answers_what_is_given_up",
    ),
)
