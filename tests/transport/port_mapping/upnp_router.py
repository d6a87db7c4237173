"""A UPnP gateway by hand: SSDP, a description, SOAP; each part as a test wants it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import transport.port_mapping.igd  # noqa: F401 - the first ask loads it: seconds on a busy machine
from tests.transport.port_mapping.routers import OWN, Datagrams, datagrams, new_host
from transport.port_mapping.values import Gateway

DEVICE = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<friendlyName>router</friendlyName><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>{scpd}</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/event</eventSubURL>
</service></serviceList></device></root>"""


def _action(name: str, *arguments: tuple[str, str, str]) -> str:
    inner = "".join(
        f"<argument><name>{name}</name><direction>{way}</direction>"
        f"<relatedStateVariable>{kind}</relatedStateVariable></argument>"
        for name, way, kind in arguments
    )
    return f"<action><name>{name}</name><argumentList>{inner}</argumentList></action>"


SCPD = (
    '<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>'
    + _action("GetExternalIPAddress", ("NewExternalIPAddress", "out", "Text"))
    + _action(
        "AddPortMapping",
        ("NewRemoteHost", "in", "Text"),
        ("NewExternalPort", "in", "Port"),
        ("NewProtocol", "in", "Text"),
        ("NewInternalPort", "in", "Port"),
        ("NewInternalClient", "in", "Text"),
        ("NewEnabled", "in", "Switch"),
        ("NewPortMappingDescription", "in", "Text"),
        ("NewLeaseDuration", "in", "Long"),
    )
    + _action(
        "DeletePortMapping",
        ("NewRemoteHost", "in", "Text"),
        ("NewExternalPort", "in", "Port"),
        ("NewProtocol", "in", "Text"),
    )
    + "</actionList><serviceStateTable>"
    + "".join(
        f'<stateVariable sendEvents="no"><name>{name}</name><dataType>{kind}</dataType>'
        "</stateVariable>"
        for name, kind in (
            ("Text", "string"),
            ("Port", "ui2"),
            ("Switch", "boolean"),
            ("Long", "ui4"),
        )
    )
    + "</serviceStateTable></scpd>"
)


@dataclass
class UpnpRouter:
    """What it says, and what was asked of it. `errors`: numbers for the next AddPortMapping."""

    gateway: Gateway
    ssdp: Datagrams = field(init=False)
    port: int = 0
    device: str = DEVICE
    scpd: str = "/scpd.xml"
    control: str = "/control"
    scpd_body: str = SCPD
    external: str = "11.0.0.4"
    errors: list[int] = field(default_factory=list)
    redirect: str = ""
    location: str = ""
    asked: list[str] = field(default_factory=list)
    mapped: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.gateway.host}:{self.port}/desc.xml"

    def search_answer(self) -> bytes:
        return (
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\n"
            f"LOCATION: {self.location or self.url}\r\n\r\n"
        ).encode()

    def search(self, request: bytes) -> Iterable[bytes]:
        assert b'MAN: "ssdp:discover"' in request
        yield self.search_answer()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = (await reader.readexactly(int(length[1]) if length else 0)).decode()
            self.asked.append(head.split()[1])
            status, answer = self._answer(head, body)
            more = f"Location: {self.redirect}\r\n" if self.redirect else ""
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n{more}"
                f"Connection: close\r\n\r\n{answer}".encode()
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, head: str, body: str) -> tuple[str, str]:
        path = head.split()[1]
        if self.redirect:
            return "307 Temporary Redirect", ""
        if path == "/desc.xml":
            return "200 OK", self.device.replace("{scpd}", self.scpd).replace(
                "{control}", self.control
            )
        if path == "/scpd.xml":
            return "200 OK", self.scpd_body
        action = re.search(r'SOAPAction: "[^"]*#(\w+)"', head, re.IGNORECASE)
        assert action is not None
        return self._call(action[1], dict(re.findall(r"<(New\w+)>([^<]*)</", body)))

    def _call(self, action: str, arguments: dict[str, str]) -> tuple[str, str]:
        inner = ""
        if action == "GetExternalIPAddress":
            inner = f"<NewExternalIPAddress>{self.external}</NewExternalIPAddress>"
        elif action == "AddPortMapping":
            if self.errors:
                return "500 Internal Server Error", _envelope(
                    "<s:Fault><detail><UPnPError xmlns='urn:schemas-upnp-org:control-1-0'>"
                    f"<errorCode>{self.errors.pop(0)}</errorCode></UPnPError></detail></s:Fault>"
                )
            self.mapped.append(arguments)
        else:
            self.mapped = [
                each
                for each in self.mapped
                if each["NewExternalPort"] != arguments["NewExternalPort"]
            ]
        return "200 OK", _envelope(
            f"<u:{action}Response xmlns:u='urn:schemas-upnp-org:service:WANIPConnection:1'>"
            f"{inner}</u:{action}Response>"
        )


def _envelope(inner: str) -> str:
    return (
        "<?xml version='1.0'?><s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'>"
        f"<s:Body>{inner}</s:Body></s:Envelope>"
    )


@asynccontextmanager
async def upnp_router() -> AsyncIterator[UpnpRouter]:
    host = new_host()
    router = UpnpRouter(Gateway(host, OWN))
    server = await asyncio.start_server(router.serve, host, 0)
    router.port = server.sockets[0].getsockname()[1]
    async with server, datagrams(host, 1900, lambda request: router.search(request)) as router.ssdp:
        yield router
