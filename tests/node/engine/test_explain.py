"""What users are told of a message that a relay did not take."""

from __future__ import annotations

import pytest

from node.engine.explain import _QUEUED
from schemas.error_codes import ERROR_CODES

OF_ENQUEUE = ("delivery-token-full", "delivery-token-refused", "disk-full", "mailbox-full",
              "no-mailbox", "relay-full", "store-unavailable")  # fmt: skip


@pytest.mark.parametrize("code", OF_ENQUEUE)
def test_why_names_the_relays_reason(code: str) -> None:
    """Else it would say that nobody can be reached, and to add a relay."""
    assert code in ERROR_CODES
    sentence, action = _QUEUED[code]
    assert "relay" in sentence
    assert action
