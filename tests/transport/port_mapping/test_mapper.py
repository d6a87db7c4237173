"""The port at the router: asked for, renewed, moved and given back, whatever the router is like."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
import time

import pytest

from schemas.addresses import Address
from tests.transport.port_mapping.routers import (
    QUICK,
    Watched,
    datagrams,
    nat_pmp_only,
    new_host,
    pcp,
    pcp_only,
    router,
    silent,
    watched,
)
from transport.port_mapping import Mapped, MappingProtocol, NotMapped
from transport.port_mapping.exchange import PORT
from transport.port_mapping.values import Gateway


async def test_pcp_comes_first_and_is_given_back_at_the_end() -> None:
    async with router(pcp_only) as (gateway, heard):
        async with watched(gateway) as found:
            outcome = await found.next()
            assert isinstance(outcome, Mapped)
            assert outcome.external == Address("11.0.0.2", 7000)
            assert outcome.protocol == MappingProtocol.PCP
            assert 3_500 < outcome.until - asyncio.get_running_loop().time() <= 3_600
        asked, released = heard.requests
        assert asked[24:36] == released[24:36]  # the nonce
        assert struct.unpack_from("!L", released, 4) == (0,)


async def test_a_router_of_nat_pmp_is_asked_by_nat_pmp_and_its_port_is_told() -> None:
    async with router(nat_pmp_only) as (gateway, heard):
        async with watched(gateway) as found:
            outcome = await found.next()
            assert isinstance(outcome, Mapped)
            assert (outcome.external, outcome.protocol) == (Address("11.0.0.3", 7001), "nat-pmp")
        assert heard.requests[-1] == bytes.fromhex("0001 0000 1b58 0000 00000000")


async def test_nobody_there() -> None:
    async with watched(Gateway(new_host(), "127.0.0.1")) as found:
        outcome = await found.next()
        assert isinstance(outcome, NotMapped)
        assert outcome.code == "no-answer"
        assert all(each in outcome.detail for each in ("pcp", "nat-pmp", "upnp"))


async def test_no_router_at_all() -> None:
    async with watched() as found:
        assert await found.next() == NotMapped(
            "no-gateway", "no router with a private address leads out of here"
        )


async def test_the_second_router_is_asked_when_the_first_is_silent() -> None:
    async with (
        router(silent) as (first, _),
        router(pcp_only) as (second, _),
        watched(first, second) as found,
    ):
        outcome = await found.next()
        assert isinstance(outcome, Mapped)
        assert outcome.gateway == second.host


async def test_a_router_that_declines_is_asked_again_later_and_less_often() -> None:
    async def times(code: int) -> list[float]:
        asked = []

        def declines(request: bytes) -> list[bytes]:
            if request[0] == 2:
                asked.append(time.monotonic())
            answer = bytearray(
                pcp(request) if request[0] == 2 else next(iter(nat_pmp_only(request)))
            )
            answer[3] = code
            return [bytes(answer)]

        async with router(declines) as (gateway, _), watched(gateway) as found:
            for _ in range(4):
                outcome = await found.next()
                assert isinstance(outcome, NotMapped)
                assert outcome.code == "refused"
                assert "not-authorized" in outcome.detail
        return asked

    first, second, third, *_ = await times(2)
    assert third - second > second - first


async def test_half_the_lifetime_later_it_is_renewed_with_the_same_nonce() -> None:
    limits = dataclasses.replace(QUICK, lifetime_s=2, least_lifetime_s=0)
    async with router(lambda request: [pcp(request, life=2)]) as (gateway, heard):
        async with watched(gateway, limits=limits) as found:
            began = time.monotonic()
            first, second = await found.next(), await found.next()
            assert 0.9 < time.monotonic() - began < 1.95
            assert isinstance(first, Mapped)
            assert isinstance(second, Mapped)
            assert second.external == first.external
            assert second.until > first.until
        nonces = {request[24:36] for request in heard.requests}
        assert len(nonces) == 1


async def test_a_lifetime_of_nothing_does_not_make_us_ask_without_end() -> None:
    async with (
        router(lambda request: [pcp(request, life=0xFFFFFFFF)]) as (gateway, heard),
        watched(gateway, limits=dataclasses.replace(QUICK, lifetime_s=1)) as found,
    ):
        endless = await found.next()
        assert isinstance(endless, Mapped)
        assert endless.until <= asyncio.get_running_loop().time() + QUICK.most_lifetime_s
        heard.answer = lambda request: [
            struct.pack("!BBxBLL12x", 2, 0x81, 0, 0, 1_000) + pcp(request)[24:]
        ]
        found.mapper.again()
        short = await found.next()
        assert isinstance(short, Mapped)
        left = short.until - asyncio.get_running_loop().time()
        assert left > QUICK.least_lifetime_s - 1


async def test_another_address_outside_is_told() -> None:
    async with router(pcp_only) as (gateway, heard), watched(gateway) as found:
        await found.next()
        heard.answer = lambda request: [pcp(request, host="11.0.0.9")]
        found.mapper.again()
        outcome = await found.next()
        assert isinstance(outcome, Mapped)
        assert outcome.external.host == "11.0.0.9"


async def test_another_gateway_takes_its_place_and_the_first_is_let_go() -> None:
    async with router(pcp_only) as (first, heard), router(pcp_only) as (second, _):
        now = [first]
        async with watched(now=now) as found:
            await found.next()
            now[:] = [second]
            outcome = await found.next()
            assert isinstance(outcome, Mapped)
            assert outcome.gateway == second.host
            assert struct.unpack_from("!L", heard.requests[-1], 4) == (0,)


async def test_a_routing_table_that_cannot_be_read_once_changes_nothing() -> None:
    async with router(pcp_only) as (gateway, heard):
        readable = [True]

        def gateways() -> list[Gateway]:
            if not readable[0]:
                raise OSError("too many open files")
            return [gateway]

        found = Watched(gateways, QUICK)
        found.mapper.start()
        try:
            await found.next()
            readable[0] = False
            async with asyncio.timeout(5):
                while not found.counters["port-mapping-no-routing-table"]:
                    await asyncio.sleep(0.01)
            assert len(heard.requests) == 1
            assert found.told.empty()
        finally:
            await found.mapper.close()


async def test_a_failed_renewal_loses_nothing_while_the_mapping_lasts() -> None:
    limits = dataclasses.replace(QUICK, lifetime_s=2, least_lifetime_s=2)
    async with router(pcp_only) as (gateway, heard), watched(gateway, limits=limits) as found:
        first = await found.next()
        heard.answer = silent
        assert await found.next() == first
        heard.answer = pcp_only
        outcome = await found.next()
        assert isinstance(outcome, Mapped)
        assert isinstance(first, Mapped)
        assert outcome.until > first.until


async def test_a_mapping_that_cannot_be_renewed_ends() -> None:
    limits = dataclasses.replace(QUICK, lifetime_s=1, least_lifetime_s=1)
    async with router(pcp_only) as (gateway, heard), watched(gateway, limits=limits) as found:
        assert isinstance(await found.next(), Mapped)
        heard.answer = silent
        while isinstance(outcome := await found.next(), Mapped):
            assert outcome.until > asyncio.get_running_loop().time()
        assert outcome.code == "no-answer"


async def test_the_end_waits_for_no_silent_router() -> None:
    async with router(pcp_only) as (gateway, heard):
        found = Watched(lambda: [gateway], dataclasses.replace(QUICK, tries_s=(3.0,)))
        found.mapper.start()
        await found.next()
        heard.answer = silent
        began = time.monotonic()
        await found.mapper.close()
        assert time.monotonic() - began < 2.5


async def test_the_end_in_the_middle_of_asking() -> None:
    asked = asyncio.Event()

    def slow(request: bytes) -> list[bytes]:
        asked.set()
        return []

    async with router(slow) as (gateway, heard):
        found = Watched(lambda: [gateway], dataclasses.replace(QUICK, tries_s=(3.0,)))
        found.mapper.start()
        await asyncio.wait_for(asked.wait(), 5)
        began = time.monotonic()
        await found.mapper.close()
        assert time.monotonic() - began < 2.5
        assert len(heard.requests) == 2  # what was asked for might have come: it is given back
        assert found.told.empty()


# --- routers that lie, and others that speak in their place


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "169.254.1.1"]
)
async def test_an_address_that_no_router_has_is_not_believed(host: str) -> None:
    def lies(request: bytes) -> list[bytes]:
        return [pcp(request, host=host)] if request[0] == 2 else []

    async with router(lies) as (gateway, _), watched(gateway) as found:
        outcome = await found.next()
        assert isinstance(outcome, NotMapped)
        assert found.counters["port-mapping-pcp-bad-external-address"] == 1


async def test_an_answer_with_another_nonce_is_passed_over_and_the_right_one_taken() -> None:
    def forged_first(request: bytes) -> list[bytes]:
        forged = bytearray(pcp(request, host="11.6.6.6"))
        forged[24] ^= 1
        return [bytes(forged), b"rubbish", pcp(request)]

    async with router(forged_first) as (gateway, _), watched(gateway) as found:
        outcome = await found.next()
        assert isinstance(outcome, Mapped)
        assert outcome.external.host == "11.0.0.2"
        assert found.counters["port-mapping-not-our-mapping"] == 1
        assert found.counters["port-mapping-not-pcp"] == 1


async def test_another_address_cannot_answer_in_the_routers_place() -> None:
    """Who sees the request (a hub, Wi-Fi) could answer faster; the system drops what it sends."""
    loop = asyncio.get_running_loop()
    async with datagrams(new_host(), PORT, silent) as other, router(silent) as (gateway, heard):

        def overheard(request: bytes) -> list[bytes]:
            other.send(pcp(request, host="11.6.6.6"), heard.asker)
            loop.call_later(0.005, heard.send, pcp(request), heard.asker)
            return []

        heard.answer = overheard
        async with watched(gateway) as found:
            outcome = await found.next()
            assert isinstance(outcome, Mapped)
            assert outcome.external.host == "11.0.0.2"


async def test_a_flood_of_rubbish_ends_the_question() -> None:
    def floods(request: bytes) -> list[bytes]:
        return [b"\xff" * 64] * (QUICK.datagrams + 1)

    async with router(floods) as (gateway, _):
        began = time.monotonic()
        patient = dataclasses.replace(QUICK, tries_s=(30.0,))
        async with watched(gateway, limits=patient) as found:
            outcome = await found.next()
            assert isinstance(outcome, NotMapped)
            assert "rubbish" in outcome.detail
        assert time.monotonic() - began < 5


async def test_a_router_that_says_that_it_began_anew_is_asked_at_once() -> None:
    async with router(pcp_only) as (gateway, heard), watched(gateway) as found:
        await found.next()
        count = len(heard.requests)
        anew = struct.pack("!BBxBLL12x", 2, 0x80, 0, 0, 1)  # 1,000 s before
        heard.send(anew, ("127.0.0.1", 5350))
        await found.next()
        assert len(heard.requests) == count + 1
        assert found.counters["port-mapping-announced"] == 1


async def test_announcements_do_not_make_us_ask_more_often_than_the_limit() -> None:
    limits = dataclasses.replace(QUICK, hint_s=60.0)
    async with router(pcp_only) as (gateway, heard), watched(gateway, limits=limits) as found:
        await found.next()
        async with datagrams(new_host(), PORT, silent) as elsewhere:
            for epoch in range(100):
                anew = struct.pack("!BBxBLL12x", 2, 0x80, 0, 0, epoch)
                heard.send(anew, ("127.0.0.1", 5350))
                elsewhere.send(anew, ("127.0.0.1", 5350))
            async with asyncio.timeout(5):
                while found.counters["port-mapping-announced-by-another"] < 100:
                    await asyncio.sleep(0.01)
        assert len(heard.requests) == 1
        assert found.told.empty()
