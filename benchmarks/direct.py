"""Direct messages between two real nodes: two processes, QUIC on loopback, durable at both ends.

Latency goes from the call of `send`, and from its answer (the message is on the sender's disk), to
the recipient's event. The floor is what no design with the same promise can leave out, measured
between the messages: a bare commit at each end, a ping-pong on the link, MLS encryption and
decryption, the envelope's sealing and opening.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mls_rs

from benchmarks.node_process import NodeProcess
from benchmarks.report import Row
from identity.envelope import generate_hybrid, open_untrusted, seal
from schemas.parcels import pad

TEXT = "x" * 100
_ROW_BYTES = 600  # a message's row, its ciphertext's and its outbox rows
_BODY_BYTES = 800
_WARM = 20
_AT_ONCE = 256


@dataclass
class _Samples:
    """Seconds."""

    called: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)


def rows(quick: bool) -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        NodeProcess(Path(folder), "ada") as ada,
        NodeProcess(Path(folder), "bob") as bob,
    ):
        return measure(ada, bob, singles=60 if quick else 400, many=1500 if quick else 6000)


def measure(ada: NodeProcess, bob: NodeProcess, *, singles: int, many: int) -> list[Row]:
    """Both figures for a pair of fresh nodes."""
    identity = ada.call("add", bob.call("card"))
    bob.call("add", ada.call("card"))
    group = ada.call("direct", identity, mls_rs.HYBRID)
    bob.call("join", group)
    crypto = _Crypto()
    samples = _Samples()
    for n in range(singles + _WARM):
        message, called, accepted = ada.call("send", group, TEXT)
        shown = bob.call("arrived", message)
        # The receipt comes back before the next one is sent, as between people.
        parts = {
            "ping-pong": ada.call("ping", identity),
            "commit here": ada.call("commit_row", _ROW_BYTES),
            "commit there": bob.call("commit_row", _ROW_BYTES),
            "MLS": crypto.mls(),
            "envelope": crypto.envelope(),
        }
        if n >= _WARM:
            samples.called.append(shown - called)
            samples.accepted.append(shown - accepted)
            samples.floor.append(sum(parts.values()))
            for name, seconds in parts.items():
                samples.parts.setdefault(name, []).append(seconds)
    rates, spent = [], []
    for _ in range(3):
        ada.call("settled")
        bob.call("forget")
        before = ada.call("cpu"), bob.call("cpu")
        ada.start("send_many", group, TEXT, many, _AT_ONCE)
        ended = bob.call("arrived_count", many)
        began, _ = ada.finish()
        rates.append(many / (ended - began))
        ada.call("settled")  # the receipts too
        spent.append((ada.call("cpu") - before[0], bob.call("cpu") - before[1]))
    cpu = tuple(statistics.median(side) / many * 1e6 for side in zip(*spent, strict=True))
    return _report(samples, rates, many, cpu)


def _report(
    samples: _Samples, rates: list[float], many: int, cpu_us: tuple[float, ...]
) -> list[Row]:
    floor = _ms(samples.floor)
    parts = ", ".join(f"{name} {_ms(seconds):.2f}" for name, seconds in samples.parts.items())
    reference = f"floor: {parts}"
    return [
        Row(
            "direct message, accepted to the recipient's event, p50",
            _ms(samples.accepted),
            "ms",
            floor,
            reference,
            target=4.0,
            at_least=False,
            note=f"p99 {_ms(samples.accepted, 99):.2f} ms",
        ),
        Row(
            "the same, absolute",
            _ms(samples.accepted),
            "ms",
            target=5.0,
            of="value",
            at_least=False,
        ),
        Row(
            "direct message, call to the recipient's event, p50",
            _ms(samples.called),
            "ms",
            floor,
            "the same floor",
            target=4.0,
            at_least=False,
            note=f"p99 {_ms(samples.called, 99):.2f} ms",
        ),
        Row(
            "the same, absolute",
            _ms(samples.called),
            "ms",
            target=5.0,
            of="value",
            at_least=False,
        ),
        Row(
            "direct messages, pipelined",
            statistics.median(rates),
            "1/s",
            target=3000.0,
            of="value",
            note=f"{many} messages, {_AT_ONCE} sends under way; runs: "
            + ", ".join(f"{rate:,.0f}" for rate in rates)
            + f"; CPU for each: {cpu_us[0]:.0f} us here, {cpu_us[1]:.0f} us there",
        ),
    ]


def _ms(seconds: list[float], percentile: int = 50) -> float:
    return statistics.quantiles(seconds, n=100)[percentile - 1] * 1000


class _Crypto:
    """The cryptography of one message, alone."""

    def __init__(self) -> None:
        self._hybrid = generate_hybrid()
        one, other = _client(), _client()
        now = int(time.time())
        self._sender = one.create_group(os.urandom(16), mls_rs.HYBRID)
        package = other.key_package(mls_rs.HYBRID, now=now, lifetime_s=86_400)
        pending = self._sender.commit(add=[package.message], now=now)
        self._sender.apply(pending)
        self._receiver = other.join(pending.welcome or b"")

    def mls(self) -> float:
        return _seconds(lambda: self._receiver.process(self._sender.encrypt(TEXT.encode())))

    def envelope(self) -> float:
        body = pad(os.urandom(_BODY_BYTES))
        return _seconds(lambda: open_untrusted(self._hybrid, seal(self._hybrid.public, body)))


def _client() -> mls_rs.Client:
    return mls_rs.Client(
        signing_seed=os.urandom(32),
        credential=b"benchmark",
        storage_key=os.urandom(32),
        validate_credential=lambda key, credential: None,
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
