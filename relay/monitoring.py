"""`/metrics` and `/health`: where they are served, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from relay.config import RelayConfig
from relay.health import OK
from relay.http import Answer, Page, serve_http
from relay.metrics import CONTENT_TYPE, RelayMetrics
from relay.service import RelayService
from relay.web_certificate import WebCertificate
from schemas.addresses import Address

LOOK_EVERY_S: Final = 30.0  # at the files of the certificate


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Where it is; None: nowhere. `certificate` is None over plain HTTP."""

    address: Address | None
    certificate: WebCertificate | None

    def reload(self) -> None:
        """Read the certificate's files again, changed or not."""
        if self.certificate is not None:
            self.certificate.read()


@asynccontextmanager
async def monitored(
    config: RelayConfig, service: RelayService, metrics: RelayMetrics, clock: Callable[[], float]
) -> AsyncIterator[Monitoring]:
    """Serve both for the length of the block, if the settings say where.

    Raises Fault `port-busy`, `cannot-bind`, `bad-metrics-cert`.
    """
    if config.metrics is None:
        yield Monitoring(None, None)
        return
    certificate = None
    if config.metrics_tls_cert is not None and config.metrics_tls_key is not None:
        certificate = WebCertificate(config.metrics_tls_cert, config.metrics_tls_key, clock)
        metrics.watch_certificate(certificate)
    context = None if certificate is None else certificate.context
    async with serve_http(config.metrics, _pages(service, metrics), context) as address:
        watch = asyncio.create_task(_keep_reading(certificate), name="web certificate")
        try:
            yield Monitoring(address, certificate)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


async def _keep_reading(certificate: WebCertificate | None) -> None:
    while certificate is not None:
        await asyncio.sleep(LOOK_EVERY_S)
        certificate.read_if_changed()


def _pages(service: RelayService, metrics: RelayMetrics) -> dict[str, Page]:
    def health() -> Answer:
        report = service.health.report()
        status = HTTPStatus.OK if report.status == OK else HTTPStatus.SERVICE_UNAVAILABLE
        address = service.address()
        told = {"address": "" if address is None else str(address)}
        return Answer.of_json(report.to_json() | told, status)

    return {
        "/health": health,
        "/metrics": lambda: Answer(HTTPStatus.OK, CONTENT_TYPE, metrics.text()),
    }
