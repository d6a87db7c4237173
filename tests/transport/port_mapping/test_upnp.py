"""UPnP with a router that is honest, old, or hostile."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import Address
from schemas.errors import Fault, Malformed
from tests.transport.port_mapping.routers import QUICK, datagrams, silent, watched
from tests.transport.port_mapping.upnp_router import DEVICE, UpnpRouter, upnp_router
from transport.port_mapping import Mapped, MappingLimits, MappingProtocol
from transport.port_mapping.ssdp import find_description, location_untrusted, own_url_untrusted
from transport.port_mapping.upnp import UpnpClient

HOST = "192.168.7.1"


def client(router: UpnpRouter, limits: MappingLimits = QUICK) -> UpnpClient:
    return UpnpClient(router.gateway, 7000, limits, Counter())


async def refused(router: UpnpRouter, limits: MappingLimits = QUICK) -> Fault:
    """The Fault of asking it, which comes long before anybody would notice."""
    async with asyncio.timeout(5):
        with pytest.raises(Fault) as raised:
            await client(router, limits).ask(3_600)
    return raised.value


async def test_a_mapping_from_the_search_to_its_end() -> None:
    async with upnp_router() as router:
        async with watched(router.gateway) as found:
            outcome = await found.next()
            assert isinstance(outcome, Mapped)
            assert outcome.external == Address("11.0.0.4", 7000)
            assert outcome.protocol == MappingProtocol.UPNP
            assert router.mapped == [
                {
                    "NewRemoteHost": "",
                    "NewExternalPort": "7000",
                    "NewProtocol": "UDP",
                    "NewInternalPort": "7000",
                    "NewInternalClient": "127.0.0.1",
                    "NewEnabled": "1",
                    "NewPortMappingDescription": "quicnprotochat",
                    "NewLeaseDuration": "3600",
                }
            ]
        assert router.mapped == []


async def test_a_renewal_looks_for_nothing_again() -> None:
    async with upnp_router() as router:
        mapping = client(router)
        await mapping.ask(3_600)
        router.asked.clear()
        await mapping.ask(3_600)
        assert set(router.asked) == {"/control"}


async def test_after_a_failure_everything_is_looked_up_anew() -> None:
    async with upnp_router() as router:
        mapping = client(router)
        await mapping.ask(3_600)
        router.errors = [501]
        with pytest.raises(Fault):
            await mapping.ask(3_600)
        router.asked.clear()
        await mapping.ask(3_600)
        assert "/desc.xml" in router.asked


async def test_an_old_router_that_has_only_permanent_mappings() -> None:
    async with upnp_router() as router:
        router.errors = [725]
        await client(router).ask(3_600)
        assert [each["NewLeaseDuration"] for each in router.mapped] == ["0"]


async def test_a_port_that_a_neighbour_has_is_left_to_them() -> None:
    async with upnp_router() as router:
        router.errors = [718]
        grant = await client(router).ask(3_600)
        assert grant.external.port != 7000
        assert [each["NewExternalPort"] for each in router.mapped] == [str(grant.external.port)]


async def test_a_router_where_every_port_is_taken_is_not_asked_for_ever() -> None:
    async with upnp_router() as router:
        router.errors = [718] * 100
        assert (await refused(router)).code == "mapping-refused"
        assert len(router.errors) == 97


async def test_a_router_that_declines() -> None:
    async with upnp_router() as router:
        router.errors = [606]
        fault = await refused(router)
        assert (fault.code, "606" in fault.message) == ("mapping-refused", True)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "not one", "::1", "11.0.0.4.5"])
async def test_a_router_without_an_address(address: str) -> None:
    async with upnp_router() as router:
        router.external = address
        assert (await refused(router)).code in ("bad-upnp", "no-external-address")


# --- hostile


async def test_it_does_not_make_us_talk_to_others() -> None:
    """A description that names URLs elsewhere: nothing is sent there, by any of the ways."""
    async with upnp_router() as router, upnp_router() as victim:
        elsewhere = f"http://{victim.gateway.host}:{victim.port}/control"
        for part in ("scpd", "control", "redirect", "location"):
            setattr(router, part, elsewhere)
            fault = await refused(router)
            assert fault.code in ("bad-upnp", "no-answer"), part
            setattr(router, part, getattr(UpnpRouter(router.gateway), part))
        assert victim.asked == []


async def test_a_bomb_of_entities_is_refused() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    async with upnp_router() as router:
        router.device = DEVICE.replace('<?xml version="1.0"?>', bomb + "]>").replace(
            "router<", "&j;<"
        )
        assert (await refused(router)).code == "bad-upnp"


@pytest.mark.parametrize(
    "device",
    [
        "",
        "<",
        "<root/>",
        "\x00\x01",
        "<a>" * 20_000,
        DEVICE.replace("WANIPConnection", "Other"),
        DEVICE.replace(
            "<serviceList>",
            f"<iconList><icon><width>{'9' * 9_000}</width></icon></iconList><serviceList>",
        ),
    ],
    ids=["empty", "cut", "bare", "binary", "unclosed", "no connection", "numbers"],
)
async def test_descriptions_that_are_none(device: str) -> None:
    async with upnp_router() as router:
        router.device = device
        assert (await refused(router)).code == "bad-upnp"


async def test_devices_inside_devices_inside_devices() -> None:
    inner, end = "<device><deviceType>x</deviceType><deviceList>", "</deviceList></device>"
    async with upnp_router() as router:
        router.device = DEVICE.replace(
            "</serviceList>",
            f"</serviceList><deviceList>{inner * 1_200}{end * 1_200}</deviceList>",
        )
        assert (await refused(router)).code == "bad-upnp"


async def test_a_description_that_names_a_thousand_services_is_not_followed() -> None:
    service = DEVICE[DEVICE.index("<service>") : DEVICE.index("</serviceList>")]
    async with upnp_router() as router:
        router.device = DEVICE.replace("<serviceList>", "<serviceList>" + service * 200)
        assert (await refused(router)).code == "bad-upnp"
        assert len(router.asked) <= QUICK.http_requests


async def test_an_answer_without_end_is_cut() -> None:
    async with upnp_router() as router:
        router.device = DEVICE + " " * QUICK.http_bytes
        assert (await refused(router)).code == "bad-upnp"


async def test_a_router_that_says_nothing_holds_us_for_the_deadline_only() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with upnp_router() as router:
        server = await asyncio.start_server(hold, router.gateway.host, 0)
        async with server:
            router.port = server.sockets[0].getsockname()[1]
            fault = await refused(router, dataclasses.replace(QUICK, http_s=0.1, upnp_s=60.0))
        assert fault.code == "no-answer"


async def test_only_the_gateway_is_believed_in_a_flood_of_answers() -> None:
    """Another device of the LAN offers itself, a hundred times, before the router answers."""
    counters: Counter[str] = Counter()
    async with (
        upnp_router() as router,
        upnp_router() as other,
        datagrams(other.gateway.host, 0, silent) as elsewhere,
    ):
        other.location = f"http://{router.gateway.host}:1/desc.xml"

        def after_a_flood(request: bytes) -> Iterable[bytes]:
            for _ in range(100):
                elsewhere.send(other.search_answer(), router.ssdp.asker)
            yield router.search_answer()

        router.search = after_a_flood  # type: ignore[method-assign]
        assert await find_description(router.gateway, QUICK, counters) == router.url
        assert counters["port-mapping-ssdp-not-the-gateway"] == 100


async def test_a_search_in_a_flood_has_an_end() -> None:
    patient = dataclasses.replace(QUICK, search_s=60.0, upnp_s=60.0)
    async with upnp_router() as router:
        router.search = lambda request: [b"rubbish"] * 300  # type: ignore[method-assign]
        assert "flood" in (await refused(router, patient)).message


# --- what a search and URLs may say


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.7.2/desc.xml",
        "http://127.0.0.1/desc.xml",
        "http://localhost/desc.xml",
        "https://192.168.7.1/desc.xml",
        "file:///etc/passwd",
        "http://192.168.7.1@11.0.0.1/desc.xml",
        "http://x:y@192.168.7.1/desc.xml",
        "http://192.168.7.1:0/desc.xml",
        "http://192.168.7.1:99999/desc.xml",
        "http://[::1/desc.xml",
        "http://192.168.7.1\r\nX: y/desc.xml",
        "//192.168.7.1/desc.xml",
        "http://192.168.7.1.example/desc.xml",
        "http://192.168.7.1/\u2028",
        "",
    ],
)
def test_a_url_that_leads_elsewhere(url: str) -> None:
    with pytest.raises(Malformed, match="foreign-url"):
        own_url_untrusted(url, HOST)


def test_a_url_of_the_router() -> None:
    assert own_url_untrusted("http://192.168.7.1:5000/rootDesc.xml", HOST).port == 5000


def test_the_location_in_an_answer() -> None:
    answer = b"HTTP/1.1 200 OK\r\nST: x\r\nLocation:http://192.168.7.1:5000/d\r\n\r\n"
    assert location_untrusted(answer, HOST) == "http://192.168.7.1:5000/d"


@given(
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.7.1"]),
    st.binary(max_size=3_000),
)  # fmt: skip
def test_no_answer_to_a_search_raises_anything_but_malformed(head: bytes, rest: bytes) -> None:
    try:
        url = location_untrusted(head + rest, HOST)
    except Malformed:
        return
    assert own_url_untrusted(url, HOST).hostname == HOST
