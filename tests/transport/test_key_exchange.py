"""X25519MLKEM768: what is agreed on, with whom, and what is refused."""

from __future__ import annotations

import os

import pytest
from aioquic import tls
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pqcrypto.kem import ml_kem_768

from tests.transport import tls_by_hand as by_hand
from tests.transport.tls_engine import engine, handshake
from transport.key_exchange import Group

READ, WRITE = tls.Direction.DECRYPT, tls.Direction.ENCRYPT
Q = 3329  # FIPS 203: coefficients of an encapsulation key are below it


def test_both_sides_prefer_the_hybrid() -> None:
    client, server = engine(is_client=True), engine(is_client=False)
    handshake(client, server)
    assert client.context.group is server.context.group is Group.X25519MLKEM768
    assert client.context.state is tls.State.CLIENT_POST_HANDSHAKE
    assert server.context.state is tls.State.SERVER_POST_HANDSHAKE
    for epoch in (tls.Epoch.HANDSHAKE, tls.Epoch.ONE_RTT):
        assert client.secrets[WRITE, epoch] == server.secrets[READ, epoch]
        assert client.secrets[READ, epoch] == server.secrets[WRITE, epoch]


def test_the_dialler_offers_both_shares_at_once_hybrid_first() -> None:
    shares = by_hand.shares_of_client_hello(engine(is_client=True).feed(b""))
    assert [(group, len(share)) for group, share in shares.items()] == [(0x11EC, 1216), (0x1D, 32)]


def test_a_client_by_hand_derives_the_same_secrets() -> None:
    """Order of shares and secrets, key schedule and exporter, checked from outside."""
    server, keys = engine(is_client=False), by_hand.ClientKeys()
    hello = by_hand.client_hello(
        [(by_hand.X25519MLKEM768, keys.hybrid_share), (by_hand.X25519, keys.x25519_share)]
    )
    flight = by_hand.messages(server.feed(hello))
    group, share = by_hand.share_of_server_hello(flight[0])
    assert group == by_hand.X25519MLKEM768
    schedule = by_hand.Schedule(keys.agree(share))
    from_client, from_server = schedule.handshake_secrets(hello + flight[0])
    assert server.secrets[READ, tls.Epoch.HANDSHAKE] == from_client
    assert server.secrets[WRITE, tls.Epoch.HANDSHAKE] == from_server
    assert [message[0] for message in flight] == [2, 8, 13, 11, 15, 20]
    exported = server.context.export_keying_material(b"EXPORTER-x", b"context", 100)
    assert exported == schedule.export(hello + b"".join(flight), b"EXPORTER-x", b"context", 100)


def test_a_server_by_hand_derives_the_same_secrets() -> None:
    client = engine(is_client=True)
    hello = client.feed(b"")
    share, secret = by_hand.answer(by_hand.shares_of_client_hello(hello)[by_hand.X25519MLKEM768])
    answer = by_hand.server_hello(by_hand.X25519MLKEM768, share)
    client.feed(answer)
    from_client, from_server = by_hand.Schedule(secret).handshake_secrets(hello + answer)
    assert client.secrets[WRITE, tls.Epoch.HANDSHAKE] == from_client
    assert client.secrets[READ, tls.Epoch.HANDSHAKE] == from_server


def test_the_server_takes_the_hybrid_wherever_it_stands() -> None:
    server, keys = engine(is_client=False), by_hand.ClientKeys()
    server.feed(
        by_hand.client_hello(
            [
                (0x2A2A, b"\x00"),
                (by_hand.X25519, keys.x25519_share),
                (by_hand.X25519MLKEM768, keys.hybrid_share),
            ]
        )
    )
    assert server.context.group is Group.X25519MLKEM768


def test_a_client_with_x25519_only_is_served_unless_the_policy_forbids() -> None:
    keys = by_hand.ClientKeys()
    hello = by_hand.client_hello([(by_hand.X25519, keys.x25519_share)])
    server = engine(is_client=False)
    server.feed(hello)
    assert server.context.group is Group.X25519
    strict = engine(is_client=False, post_quantum_only=True)
    with pytest.raises(tls.AlertHandshakeFailure, match="not-post-quantum"):
        strict.feed(hello)
    assert strict.context.refusal is not None
    assert strict.context.refusal.code == "not-post-quantum"
    assert strict.context.group is None


def test_a_strict_client_offers_nothing_less() -> None:
    client = engine(is_client=True, post_quantum_only=True)
    hello = client.feed(b"")
    assert list(by_hand.shares_of_client_hello(hello)) == [by_hand.X25519MLKEM768]
    with pytest.raises(tls.AlertIllegalParameter):
        client.feed(by_hand.server_hello(by_hand.X25519, by_hand.ClientKeys().x25519_share))


def test_where_openssl_has_no_mlkem_pqcrypto_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One side by each library: the fallback agrees with everybody else."""
    client = engine(is_client=True)
    hello = client.feed(b"")
    monkeypatch.setattr(mlkem.MLKEM768PublicKey, "from_public_bytes", _unsupported)
    monkeypatch.setattr(mlkem.MLKEM768PrivateKey, "generate", _unsupported)
    server = engine(is_client=False)
    server.feed(client.feed(server.feed(hello)))
    assert server.context.group is Group.X25519MLKEM768
    handshake(engine(is_client=True), engine(is_client=False))


def _unsupported(*_: object) -> object:
    raise UnsupportedAlgorithm("no ML-KEM in this OpenSSL")


def _with_coefficient(encapsulation_key: bytes, index: int, value: int) -> bytes:
    """FIPS 203, ByteEncode_12: two coefficients in three bytes."""
    changed = bytearray(encapsulation_key)
    at = index // 2 * 3
    pair = int.from_bytes(changed[at : at + 3], "little")
    shift = 12 * (index % 2)
    pair = pair & ~(0xFFF << shift) | value << shift
    changed[at : at + 3] = pair.to_bytes(3, "little")
    return bytes(changed)


KEYS = by_hand.ClientKeys()
EK = KEYS.hybrid_share[:1184]
POINTS_OF_SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
]


@pytest.mark.parametrize("use_pqcrypto", [False, True])
@pytest.mark.parametrize(
    "share",
    [
        b"\xff" * 1216,
        b"\xff" * 1184 + KEYS.x25519_share,
        _with_coefficient(EK, 0, Q) + KEYS.x25519_share,
        _with_coefficient(EK, 767, Q) + KEYS.x25519_share,
        _with_coefficient(EK, 300, 4095) + KEYS.x25519_share,
        KEYS.hybrid_share[:-1],
        KEYS.hybrid_share + b"\x00",
        KEYS.x25519_share,
        EK,
        b"",
        *[EK + point for point in POINTS_OF_SMALL_ORDER],
    ],
    ids=lambda share: f"{len(share)}-{share[:2].hex()}-{share[-2:].hex()}",
)
def test_bad_hybrid_shares_are_refused(
    share: bytes, use_pqcrypto: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if use_pqcrypto:
        monkeypatch.setattr(mlkem.MLKEM768PublicKey, "from_public_bytes", _unsupported)
    server = engine(is_client=False)
    with pytest.raises(tls.AlertIllegalParameter):
        server.feed(by_hand.client_hello([(by_hand.X25519MLKEM768, share)]))
    assert server.context.refusal is not None
    assert server.context.refusal.code == "key-share-malformed"
    assert server.context.group is None
    assert not server.secrets


def test_a_bad_hybrid_share_does_not_fall_back_to_x25519() -> None:
    """Or whoever can spoil one share chooses the weaker group."""
    server = engine(is_client=False)
    with pytest.raises(tls.AlertIllegalParameter):
        server.feed(
            by_hand.client_hello(
                [
                    (by_hand.X25519MLKEM768, b"\xff" * 1216),
                    (by_hand.X25519, KEYS.x25519_share),
                ]
            )
        )


@pytest.mark.parametrize(
    "point",
    [
        *POINTS_OF_SMALL_ORDER,
        b"\x00" + KEYS.x25519_share,
        KEYS.x25519_share + b"\x00",
        KEYS.x25519_share[1:],
        KEYS.hybrid_share,
    ],
)
def test_bad_x25519_shares_are_refused(point: bytes) -> None:
    server = engine(is_client=False)
    with pytest.raises(tls.AlertIllegalParameter):
        server.feed(by_hand.client_hello([(by_hand.X25519, point)]))


@pytest.mark.parametrize(
    "shares, groups, alert, code",
    [
        ([(0x1D, KEYS.x25519_share)] * 2, [0x1D], tls.AlertIllegalParameter, "key-share-repeated"),
        ([(0x11EC, KEYS.hybrid_share)] * 2, None, tls.AlertIllegalParameter, "key-share-repeated"),
        ([(0x1D, KEYS.x25519_share)], [0x11EC], tls.AlertIllegalParameter, "key-share-repeated"),
        ([], [0x11EC, 0x1D], tls.AlertHandshakeFailure, "no-common-group"),
        ([(0x17, os.urandom(65))], None, tls.AlertHandshakeFailure, "no-common-group"),
    ],
)
def test_shares_that_contradict_each_other(
    shares: list[tuple[int, bytes]],
    groups: list[int] | None,
    alert: type[tls.Alert],
    code: str,
) -> None:
    server = engine(is_client=False)
    with pytest.raises(alert):
        server.feed(by_hand.client_hello(shares, groups))
    assert server.context.refusal is not None
    assert server.context.refusal.code == code


def _server_share(change: str, hello: bytes) -> tuple[int, bytes]:
    share, _ = by_hand.answer(by_hand.shares_of_client_hello(hello)[by_hand.X25519MLKEM768])
    hybrid = by_hand.X25519MLKEM768
    changed: dict[str, tuple[int, bytes]] = {
        "short ciphertext": (hybrid, share[1:]),
        "long ciphertext": (hybrid, b"\x00" + share),
        "no ciphertext": (hybrid, share[-32:]),
        "empty": (hybrid, b""),
        "zero point": (hybrid, share[:1088] + bytes(32)),
        "zero point alone": (by_hand.X25519, bytes(32)),
        "short point alone": (by_hand.X25519, share[-31:]),
        "long point alone": (by_hand.X25519, share[-33:]),
        "not offered": (0x17, os.urandom(65)),
        "unknown": (0x2A2A, b"\x00"),
    }
    return changed[change]


@pytest.mark.parametrize(
    "change",
    [
        "short ciphertext",
        "long ciphertext",
        "no ciphertext",
        "empty",
        "zero point",
        "zero point alone",
        "short point alone",
        "long point alone",
        "not offered",
        "unknown",
    ],
)
def test_bad_answers_are_refused(change: str) -> None:
    client = engine(is_client=True)
    group, share = _server_share(change, client.feed(b""))
    with pytest.raises(tls.AlertIllegalParameter):
        client.feed(by_hand.server_hello(group, share))
    assert client.context.refusal is not None
    assert client.context.refusal.code == "key-share-malformed"
    assert not client.secrets


def test_a_ciphertext_for_another_key_ends_in_different_secrets() -> None:
    """ML-KEM rejects implicitly: the handshake must fail at the first encrypted message."""
    client = engine(is_client=True)
    hello = client.feed(b"")
    encapsulation_key, _ = ml_kem_768.keygen()
    theirs = by_hand.shares_of_client_hello(hello)[by_hand.X25519MLKEM768]
    share, secret = by_hand.answer(bytes(encapsulation_key) + theirs[1184:])
    answer = by_hand.server_hello(by_hand.X25519MLKEM768, share)
    client.feed(answer)
    _, from_server = by_hand.Schedule(secret).handshake_secrets(hello + answer)
    assert client.secrets[READ, tls.Epoch.HANDSHAKE] != from_server


def test_a_hello_retry_request_is_refused() -> None:
    """Both shares were offered: there is nothing to ask for again (RFC 8446, 4.1.4)."""
    client = engine(is_client=True)
    client.feed(b"")
    retry = by_hand.server_hello(
        by_hand.X25519,
        b"",
        random=bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"),
    )
    with pytest.raises(tls.Alert):
        client.feed(retry)


def test_a_handshake_message_without_end_is_refused() -> None:
    """aioquic keeps what is announced: 16 MiB for somebody who proved nothing."""
    server = engine(is_client=False)
    server.feed(b"\x01\xff\xff\xff" + bytes(16_000))
    with pytest.raises(tls.AlertDecodeError):
        server.feed(bytes(1000))
    assert len(server.context._receive_buffer) <= 16 * 1024


def test_every_connection_has_keys_of_its_own() -> None:
    key = Ed25519PrivateKey.generate()
    first = by_hand.shares_of_client_hello(engine(is_client=True, key=key).feed(b""))
    second = by_hand.shares_of_client_hello(engine(is_client=True, key=key).feed(b""))
    assert not set(first.values()) & set(second.values())
