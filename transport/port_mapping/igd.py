"""A UPnP Internet gateway, spoken to through `async-upnp-client`, within bounds.

Its XML parser refuses entities. What it fetches goes through `_Requester`, which holds the bounds:
only the router's own host, only so many bytes, requests and seconds, no redirects, no proxies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from async_upnp_client.client import UpnpRequester, UpnpService
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.const import HttpRequest, HttpResponse
from async_upnp_client.exceptions import UpnpActionError

from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable

from .ssdp import own_url_untrusted
from .values import MappingLimits

_SERVICES: Final = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
_CONFLICT: Final = 718  # ConflictInMappingEntry
_ONLY_PERMANENT: Final = 725  # OnlyPermanentLeasesSupported: many of version 1
_ANYBODY: Final = ""  # as remote host


class WanConnection:
    """The connection to the Internet of a router that says it has one."""

    def __init__(self, service: UpnpService, requester: _Requester) -> None:
        self._service = service
        self._requester = requester

    async def external_host(self) -> str:
        """Raises Malformed, Refused, Unreachable (as `map` and `unmap`)."""
        answer = await self._call("GetExternalIPAddress")
        try:
            ip = ipaddress.IPv4Address(str(answer.get("NewExternalIPAddress")))
        except ValueError:
            raise Malformed("bad-upnp", "the router's address is none") from None
        if ip.is_unspecified:
            raise Unreachable("no-external-address", "the router has no address itself")
        return str(ip)

    async def map(self, external: int, own: str, port: int, lifetime_s: int, *, last: bool) -> bool:
        """UDP from `external` to `own`:`port`. False if another has it; with `last`, raises."""
        for lease_s in (lifetime_s, 0):
            try:
                await self._call(
                    "AddPortMapping",
                    NewRemoteHost=_ANYBODY,
                    NewExternalPort=external,
                    NewProtocol="UDP",
                    NewInternalPort=port,
                    NewInternalClient=own,
                    NewEnabled=True,
                    NewPortMappingDescription="quicnprotochat",
                    NewLeaseDuration=lease_s,
                )
            except _Declined as fault:
                if fault.number == _CONFLICT and not last:
                    return False
                if fault.number != _ONLY_PERMANENT or not lease_s:
                    raise
            else:
                break
        return True

    async def unmap(self, external: int) -> None:
        await self._call(
            "DeletePortMapping",
            NewRemoteHost=_ANYBODY,
            NewExternalPort=external,
            NewProtocol="UDP",
        )

    async def _call(self, action: str, **arguments: Any) -> dict[str, Any]:
        async with self._requester.bounded():
            return dict(await self._service.action(action).async_call(**arguments))


class _Declined(Refused):
    """A UPnP error with its number."""

    def __init__(self, error: UpnpActionError) -> None:
        super().__init__(
            "mapping-refused",
            f"the router declines: UPnP error {error.error_code}",
            blame=Blame.ENVIRONMENT,
            hint="allow UPnP port mappings in the router's settings",
        )
        self.number = error.error_code


async def find_connection(url: str, host: str, limits: MappingLimits) -> WanConnection:
    """What the description at `url` of the router `host` says about its way out.

    Of several the first that has an address. Raises Malformed, Refused, Unreachable.
    """
    requester = _Requester(host, limits)
    async with requester.bounded():
        device = await UpnpFactory(requester, non_strict=True).async_create_device(url)
        services = [device.find_service(each) for each in _SERVICES]
    fault: Fault = Malformed("bad-upnp", "the router's UPnP knows no connection to the Internet")
    for service in services:
        if service is None:
            continue
        connection = WanConnection(service, requester)
        try:
            await connection.external_host()
        except Fault as error:
            fault = error
        else:
            return connection
    raise fault


class _Requester(UpnpRequester):
    """The library's way out."""

    def __init__(self, host: str, limits: MappingLimits) -> None:
        self._host = host
        self._limits = limits
        self._left = 0
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """One task of the library; whatever it raises about a router's bytes is Malformed."""
        self._left = self._limits.http_requests
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._limits.http_s),
            auto_decompress=False,
        ) as self._session:
            try:
                yield
            except Fault:
                raise
            except UpnpActionError as error:
                raise _Declined(error) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unreachable("no-answer", f"the router's UPnP: {error!r}") from None
            except Exception as error:  # noqa: BLE001 - it meets strange XML with any exception
                raise Malformed("bad-upnp", f"the router's UPnP: {type(error).__name__}") from None

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        own_url_untrusted(http_request.url, self._host)
        self._left -= 1
        if self._session is None or self._left < 0:
            raise Malformed("bad-upnp", "the router's description names too many things")
        async with self._session.request(
            http_request.method,
            http_request.url,
            headers=http_request.headers,
            data=http_request.body,
            allow_redirects=False,
        ) as response:
            body = await _read(response.content, self._limits.http_bytes)
            return HttpResponse(
                response.status, dict(response.headers), body.decode("utf-8", "replace")
            )


async def _read(content: aiohttp.StreamReader, most: int) -> bytes:
    """Raises Malformed above `most` bytes."""
    body = b""
    async for piece in content.iter_chunked(most):
        body += piece
        if len(body) > most:
            raise Malformed("bad-upnp", f"an answer of the router above {most} bytes")
    return body
