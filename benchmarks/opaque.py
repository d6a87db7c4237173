"""OPAQUE: whether a login tells who has an account, and what stretching a password costs.

Known and unknown users, and the two implementations of Argon2id, take turns; medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from opaque_ke import KSF_LATEST, ClientLogin, ClientRegistration, ServerSetup

from benchmarks.report import Row

_ID: Final = b"alice"
_PASSWORD: Final = b"correct horse battery staple"


def rows(quick: bool) -> list[Row]:
    setup = ServerSetup.generate()
    new = ClientRegistration(_PASSWORD)
    answer = setup.registration_response(new.request, _ID)
    record = new.finish(answer, ksf=KSF_LATEST).upload
    request = ClientLogin(_PASSWORD).request

    def stretch() -> None:
        waiting.pop().finish(answer, ksf=KSF_LATEST)

    def argon2id() -> None:
        Argon2id(salt=bytes(16), length=64, iterations=3, lanes=4, memory_cost=64 * 1024).derive(
            bytes(64)
        )

    unknown, known = _in_turns(
        lambda: setup.login_start(None, request, _ID),
        lambda: setup.login_start(record, request, _ID),
        2_000 if quick else 20_000,
    )
    rounds = 5 if quick else 30
    waiting = [ClientRegistration(_PASSWORD) for _ in range(rounds)]
    ours, openssl = _in_turns(stretch, argon2id, rounds)
    return [
        Row(
            "the answer to a login, for a user who does not exist",
            unknown * 1e6,
            "µs",
            known * 1e6,
            "one who does",
            target=1.005,
            at_least=False,
        ),
        Row(
            "the client's work, nearly all of it Argon2id of 64 MiB",
            ours * 1e3,
            "ms",
            openssl * 1e3,
            "OpenSSL's Argon2id alone",
        ),
    ]


def _in_turns(
    one: Callable[[], object], other: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """The median seconds of each; who begins changes from round to round."""
    seconds: dict[Callable[[], object], list[float]] = {one: [], other: []}
    for turn in range(rounds):
        for run in (one, other) if turn % 2 else (other, one):
            began = time.perf_counter()
            run()
            seconds[run].append(time.perf_counter() - began)
    return statistics.median(seconds[one]), statistics.median(seconds[other])
