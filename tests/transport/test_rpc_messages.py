"""The reader of RPC messages sees what the library sees, and raises Malformed and nothing else.

A reader that saw less would let a message pass that the library then acts on: so whatever both
accept, they must read alike.
"""

from __future__ import annotations

import contextlib
from typing import Any

import capnp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import Malformed
from tests.transport.rpc_by_hand import bootstrap, call, finish, framed, message, rpc, subscribe
from transport import TransportLimits, rpc_messages
from transport.rpc_messages import Kind, RpcMessage, read_message_untrusted, read_own_message
from transport.rpc_tables import RpcTables

MOST = TransportLimits().rpc_message
HOSTED = ("none", "senderHosted", "receiverHosted")
numbers = st.integers(0, 2**32 - 1)


def seen_by_the_library(raw: bytes) -> RpcMessage:
    """What pycapnp reads in it; raises its exceptions."""
    with rpc.Message.from_bytes(raw) as root:
        which = str(root.which())
        kind = root.schema.fields[which].proto.discriminantValue
        if which in ("finish", "bootstrap"):
            return RpcMessage(len(raw), kind, getattr(root, which).questionId)
        if which == "call":
            return _call(len(raw), kind, root.call)
        if which == "return":
            return _return(len(raw), kind, getattr(root, "return"))
        return RpcMessage(len(raw), kind)


def _call(end: int, kind: int, body: Any) -> RpcMessage:
    count, plain = _payload(body.params)
    plain = plain and str(body.sendResultsTo.which()) == "caller" and not body.onlyPromisePipeline
    promised = None
    if str(body.target.which()) == "promisedAnswer":
        promised = body.target.promisedAnswer.questionId
        plain = plain and not len(body.target.promisedAnswer.transform)
    return RpcMessage(end, kind, body.questionId, promised, count, plain)


def _return(end: int, kind: int, body: Any) -> RpcMessage:
    which, count, plain = str(body.which()), 0, True
    if which == "results":
        count, plain = _payload(body.results)
    elif which not in ("exception", "canceled"):
        plain = False
    return RpcMessage(end, kind, body.answerId, None, count, plain, body.noFinishNeeded)


def _payload(payload: Any) -> tuple[int, bool]:
    table = payload.capTable
    if len(table) > 64:
        return len(table), False
    return len(table), all(str(each.which()) in HOSTED for each in table)


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    def change(body: Any) -> None:
        if draw(st.booleans()):
            body.target.importedCap = draw(numbers)
        else:
            answer = body.target.init("promisedAnswer")
            answer.questionId = draw(numbers)
            if draw(st.booleans()):
                answer.init("transform", draw(st.integers(0, 3)))
        body.onlyPromisePipeline = draw(st.booleans())
        body.noPromisePipelining = draw(st.booleans())
        if draw(st.booleans()):
            body.sendResultsTo.yourself = None
        _fill_table(draw, body.params)

    # Large data makes the library use several segments, and far pointers between them.
    size = draw(st.sampled_from([0, 10, 10_000, 100_000]))
    return call(draw(numbers), data=bytes(size), change=change)


@st.composite
def returns(draw: st.DrawFn) -> bytes:
    def fill(body: Any) -> None:
        body.answerId = draw(numbers)
        body.noFinishNeeded = draw(st.booleans())
        body.releaseParamCaps = draw(st.booleans())
        match draw(st.integers(0, 4)):
            case 0:
                _fill_table(draw, body.init("results"))
            case 1:
                body.init("exception").reason = "why"
            case 2:
                body.canceled = None
            case 3:
                body.resultsSentElsewhere = None
            case _:
                body.takeFromOtherQuestion = draw(numbers)

    return message("return", fill)


def _fill_table(draw: st.DrawFn, payload: Any) -> None:
    count = draw(st.sampled_from([None, 0, 1, 2, 64, 65]))
    for each in () if count is None else payload.init("capTable", count):
        match draw(st.integers(0, 4)):
            case 0:
                each.none = None
            case 1:
                each.senderHosted = draw(numbers)
            case 2:
                each.senderPromise = draw(numbers)
            case 3:
                each.receiverHosted = draw(numbers)
            case _:
                each.init("receiverAnswer").questionId = draw(numbers)


OTHERS = [
    message(kind)
    for kind in ("unimplemented", "abort", "resolve", "release", "disembargo", "provide", "join")
]
honest = st.one_of(
    calls(), returns(), numbers.map(bootstrap), numbers.map(finish), st.sampled_from(OTHERS)
)


@settings(max_examples=300, deadline=None)
@given(honest)
def test_it_reads_what_the_library_reads(raw: bytes) -> None:
    assert read_message_untrusted(raw, 0, MOST) == seen_by_the_library(raw)
    assert read_message_untrusted(b"\1" * 24 + raw + b"\2", 24, MOST) is not None
    assert read_message_untrusted(raw[:-1], 0, MOST) is None


@settings(max_examples=200, deadline=None)
@given(honest)
def test_of_our_own_it_reads_less_and_that_alike(raw: bytes) -> None:
    ours, full = read_own_message(b"\1" * 8 + raw, 8), read_message_untrusted(raw, 0, MOST)
    assert ours is not None
    assert full is not None
    assert (ours.end - 8, ours.kind, ours.question, ours.final) == (
        full.end,
        full.kind,
        full.question,
        full.final,
    )
    assert read_own_message(raw[:-1], 0) is None


def test_a_message_of_everyday_is_read_the_short_way() -> None:
    """Both ways say the same (the tests around this one compare them with the library)."""
    answer = message("return", lambda body: body.init("results"))
    for raw in (call(7), call(8, data=bytes(400), change=_on_an_import), answer, finish(9)):
        read = rpc_messages._read_usual(raw, 8, len(raw))
        assert read == rpc_messages._read(raw, [(8, len(raw))], len(raw))


def _on_an_import(body: Any) -> None:
    body.target.importedCap = 3


@settings(max_examples=1_000, deadline=None)
@given(honest, st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=6))
def test_what_both_accept_both_read_alike(raw: bytes, changes: list[tuple[int, int]]) -> None:
    """Bytes of the pointers and structs changed at random."""
    spoilt = bytearray(raw)
    for at, value in changes:
        spoilt[at % len(spoilt)] = value
    try:
        ours = read_message_untrusted(spoilt, 0, MOST)
    except Malformed:
        return
    if ours is None or ours.end != len(spoilt):
        return
    try:
        theirs = seen_by_the_library(bytes(spoilt))
    except capnp.KjException:  # it refuses more: what lies in bodies that are not read here
        return
    assert ours == theirs


@settings(max_examples=500)
@given(st.binary(max_size=400))
@example(b"\xff" * 64)
@example(bytes(8))
def test_any_bytes_are_malformed_at_most(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        read_message_untrusted(raw, 0, MOST)


FAR = [
    # (what, words of each segment) — the root pointer is the first word of the first segment
    ("to itself", [[2 | 0 << 32]]),
    ("to no segment", [[2 | 7 << 32]]),
    ("to a far pointer", [[2 | 1 << 32], [2 | 0 << 32]]),
    ("double, to itself", [[2 | 4 | 0 << 32, 0]]),
    ("double, past the end", [[2 | 4 | 1 << 32], [2 | 0 << 32]]),
    ("past the end", [[2 | 8 << 3 | 1 << 32], [0]]),
    ("struct past the end", [[1 << 32 | 1 << 48]]),
    ("struct before the beginning", [[0xFFFF_FFF8 | 1 << 32]]),
    ("a list where a struct belongs", [[1]]),
    ("a capability where a struct belongs", [[3]]),
]


@pytest.mark.parametrize("segments", [words for _, words in FAR], ids=[name for name, _ in FAR])
def test_pointers_to_nowhere(segments: list[list[int]]) -> None:
    with pytest.raises(Malformed):
        read_message_untrusted(framed(*segments), 0, MOST)


def test_a_double_far_pointer_is_followed() -> None:
    # Root → pad in segment 1 → content in segment 2: Message with kind Release and no body.
    segments = [[2 | 4 | 1 << 32], [2 | 2 << 32, 1 << 32 | 1 << 48], [Kind.RELEASE, 0]]
    raw = framed(*segments)
    found = read_message_untrusted(raw, 0, MOST)
    assert found == RpcMessage(len(raw), Kind.RELEASE) == seen_by_the_library(raw)


@pytest.mark.parametrize(
    "head", [b"\0\0\0\0\xff\xff\xff\xff", b"\1\0\0\0\0\0\2\0\1\0\0\0\0\0\0\0", b"\0\0\0\0\1\0\2\0"]
)
def test_too_large_is_known_from_its_first_bytes(head: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        read_message_untrusted(head, 0, MOST)
    assert caught.value.code == "rpc-message-too-large"


def test_a_hundred_thousand_calls_leave_the_tables_empty() -> None:
    """Answered, failed, given up before and after the answer: by a client that finishes."""
    tables = RpcTables(TransportLimits())
    for number in range(100_000):
        question = number % 50
        assert tables.received(RpcMessage(0, Kind.CALL, question), 100)
        answer = RpcMessage(0, Kind.RETURN, question, final=number % 3 == 0)
        if number % 3 == 1:
            tables.received(RpcMessage(0, Kind.FINISH, question), 100)
        tables.sent(answer)
        tables.received(RpcMessage(0, Kind.FINISH, question), 100)
    assert tables.answers == tables._bytes == 0
    assert not tables._given_up | tables._unfinished | tables._asked | tables._bootstraps


def test_the_seeds_are_good() -> None:
    for raw in (bootstrap(), call(1), finish(1), subscribe(2)):
        assert read_message_untrusted(raw, 0, MOST) == seen_by_the_library(raw)
