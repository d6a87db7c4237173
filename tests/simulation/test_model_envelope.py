"""The model of the envelope opens and fails as the real one does."""

from __future__ import annotations

from types import ModuleType

import pytest

from identity import envelope
from identity.envelope import generate_hybrid
from schemas.errors import Malformed
from simulation import model_envelope

both = pytest.mark.parametrize("envelopes", [envelope, model_envelope], ids=["real", "model"])


@both
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_what_is_sealed_opens_and_has_the_same_size(envelopes: ModuleType, size: int) -> None:
    keys = generate_hybrid()
    sealed = envelopes.seal(keys.public, bytes(size))
    assert envelopes.open_untrusted(keys, sealed) == bytes(size)
    assert len(sealed) == size + envelope.OVERHEAD


@both
def test_nobody_else_opens_it(envelopes: ModuleType) -> None:
    sealed = envelopes.seal(generate_hybrid().public, b"for one")
    with pytest.raises(Malformed) as refused:
        envelopes.open_untrusted(generate_hybrid(), sealed)
    assert refused.value.code == "cannot-open"


@both
def test_a_flipped_byte_is_found(envelopes: ModuleType) -> None:
    keys = generate_hybrid()
    sealed = envelopes.seal(keys.public, b"precious")
    for place in (0, 1, 40, 600, 1120, len(sealed) - 1):
        bad = sealed[:place] + bytes([sealed[place] ^ 2]) + sealed[place + 1 :]
        with pytest.raises(Malformed) as refused:
            envelopes.open_untrusted(keys, bad)
        assert refused.value.code == ("cannot-open" if place else "unknown-envelope-version")
    with pytest.raises(Malformed) as refused:
        envelopes.open_untrusted(keys, sealed[: envelope.OVERHEAD - 1])
    assert refused.value.code == "cannot-open"


@both
def test_a_key_of_another_length_is_refused(envelopes: ModuleType) -> None:
    with pytest.raises(Malformed) as refused:
        envelopes.seal(bytes(32), b"x")
    assert refused.value.code == "bad-hybrid-key"
