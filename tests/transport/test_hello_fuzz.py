"""Whatever a stranger sends as a hello, only aioquic's alerts come of it, and no state."""

from __future__ import annotations

import contextlib

from aioquic import tls
from aioquic.quic.packet import QuicHeader
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import Malformed
from tests.transport import tls_by_hand as by_hand
from tests.transport.support import QUICK
from tests.transport.tls_engine import Engine, engine
from transport.admission import Admission, Decision, destination_id_untrusted
from transport.key_exchange import PREFERENCE, Group, Offer, answer_untrusted
from transport.retry import RetryTokens

KEYS = by_hand.ClientKeys()
CLIENT_HELLO = by_hand.client_hello(
    [(by_hand.X25519MLKEM768, KEYS.hybrid_share), (by_hand.X25519, KEYS.x25519_share)]
)
groups = st.sampled_from([0x11EC, 0x1D, 0x17, 0x2A2A]) | st.integers(0, 0xFFFF)
lengths = st.sampled_from([0, 31, 32, 33, 1_088, 1_119, 1_120, 1_121, 1_184, 1_215, 1_216, 1_217])
shares = (
    lengths.map(lambda size: (KEYS.hybrid_share * 2)[:size])
    | lengths.map(lambda size: b"\xff" * size)
    | st.binary(max_size=64)
)


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """Bytes changed, cut out or put in, with the outer length made to fit again or not."""
    body = bytearray(message[4:])
    for _ in range(draw(st.integers(1, 4))):
        # The structure is in the first bytes and around the extensions, not inside the keys.
        at = draw(st.integers(0, len(body)) | st.integers(0, min(150, len(body))))
        match draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                body[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
            case "cut":
                del body[at : at + draw(st.integers(1, 40))]
            case _:
                body[at:at] = draw(st.binary(min_size=1, max_size=40))
    size = draw(st.just(len(body)) | st.integers(0, len(body) + 10))
    return message[:1] + size.to_bytes(3, "big") + bytes(body)


def alerts_only(side: Engine, data: bytes) -> None:
    with contextlib.suppress(tls.Alert):
        side.feed(data)
    context = side.context
    if context.group is None:
        assert not side.secrets, "secrets without an agreement"
    assert context.proven is None


@settings(max_examples=300, deadline=None)
@given(mutated(CLIENT_HELLO))
def test_mutated_client_hellos(message: bytes) -> None:
    alerts_only(engine(is_client=False), message)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400).map(lambda body: b"\x01" + by_hand.block(3, body)))
def test_random_client_hellos(message: bytes) -> None:
    alerts_only(engine(is_client=False), message)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(groups, shares), max_size=5), st.none() | st.lists(groups, max_size=5))
def test_any_key_shares(offered: list[tuple[int, bytes]], listed: list[int] | None) -> None:
    server = engine(is_client=False)
    alerts_only(server, by_hand.client_hello(offered, listed))
    if server.context.group is not None:
        chosen = dict(offered)[server.context.group]
        assert len(chosen) == (1_216 if server.context.group is Group.X25519MLKEM768 else 32)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_server_hellos(data: st.DataObject) -> None:
    client = engine(is_client=True)
    share, _ = by_hand.answer(by_hand.shares_of_client_hello(client.feed(b""))[0x11EC])
    alerts_only(client, data.draw(mutated(by_hand.server_hello(0x11EC, share))))


@settings(max_examples=100, deadline=None)
@given(groups, shares)
def test_any_answer(group: int, share: bytes) -> None:
    client = engine(is_client=True)
    client.feed(b"")
    alerts_only(client, by_hand.server_hello(group, share))


@settings(max_examples=200, deadline=None)
@given(groups, shares | st.binary(max_size=1_300))
def test_shares_raise_malformed_or_give_a_secret(group: int, share: bytes) -> None:
    with contextlib.suppress(Malformed):
        _, secret = Offer(PREFERENCE).agree_untrusted(group, share)
        assert len(secret) in (32, 64)
    for known in PREFERENCE:
        with contextlib.suppress(Malformed):
            assert len(answer_untrusted(known, share)[1]) in (32, 64)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80),
    st.sampled_from([b"\xc0\x00\x00\x00\x01\x08", b"\xc0\x00\x00\x00\x00", b"\xff", b"\xe0", b""]),
    st.booleans(),
)
def test_admission_decides_on_anything(data: bytes, start: bytes, fill: bool) -> None:
    admission = Admission(QUICK, listening=True)
    datagram = (start + data).ljust(1_200 if fill else 0, b"\x41")
    identifier = destination_id_untrusted(datagram)
    assert identifier is None or len(identifier) <= 20
    decision = admission.judge_untrusted(datagram, ("192.0.2.1", 1), now=1.0, accepted=0)
    assert isinstance(decision, Decision)
    assert len(decision.reply) < 1_200
    assert admission.half_open == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_token_is_malformed(token: bytes) -> None:
    header = QuicHeader(1, None, 0, b"12345678", b"", token, b"", [])  # type: ignore[arg-type]
    with contextlib.suppress(Malformed):
        RetryTokens().original_id_untrusted(header, ("192.0.2.1", 1), 1.0)
        raise AssertionError("a token out of thin air is good")
