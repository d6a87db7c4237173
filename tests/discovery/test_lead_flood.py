"""A source that answers with hundreds of records: each would cost a check of a signature."""

from __future__ import annotations

import pytest

from discovery.record import open_endpoint_record_untrusted
from discovery.resolver import LEADS_PER_SOURCE
from schemas.records import EndpointRecord, Signed
from tests.discovery.test_resolver import DEVICE, Fixed, public, record, resolver


async def test_few_signatures_are_checked_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = 0

    def counted(signed: Signed, *, now: float) -> EndpointRecord:
        nonlocal checked
        checked += 1
        return open_endpoint_record_untrusted(signed, now=now)

    monkeypatch.setattr("discovery.resolver.open_endpoint_record_untrusted", counted)
    flood = [record(number, public("198.51.100.2")) for number in range(1, 200)]
    asked = resolver(Fixed("dht", flood))
    answer = await asked.resolve(DEVICE.public)
    assert checked == LEADS_PER_SOURCE
    assert asked.counts["dht", "too-many"] == len(flood) - LEADS_PER_SOURCE
    assert answer.record is not None
