"""The certificate of /metrics and /health over HTTPS, read again when its files change.

Nodes have nothing to do with it: they pin the relay's device key (relay/keys.py). This one is of
any key and any issuer, such as what an ACME client writes, for a monitor on another machine.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from schemas.errors import Blame, Fault

log = logging.getLogger(__name__)

DAY_S = 86_400.0


class WebCertificate:
    """`context` serves what was last read whole; connections that are open keep what they have.

    `clock` gives Unix seconds. `trouble` is why the files as they are now are not used; empty:
    they are. Making one raises Fault `bad-metrics-cert`.
    """

    def __init__(self, cert: Path, key: Path, clock: Callable[[], float]) -> None:
        self._cert = cert
        self._key = key
        self._clock = clock
        self._seen: object = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.trouble = ""
        self._until = 0.0
        self.read()
        if self.trouble:
            raise Fault(
                "bad-metrics-cert",
                f"{str(cert)!r} cannot be used: {self.trouble}",
                blame=Blame.CALLER,
                hint="mend metrics_tls_cert and metrics_tls_key",
            )

    @property
    def days(self) -> float:
        """Until what is served expires; negative: since."""
        return (self._until - self._clock()) / DAY_S

    def read_if_changed(self) -> None:
        seen = self._stamp()
        if seen != self._seen:
            self.read()

    def read(self) -> None:
        """Serve what the files hold now, unless something is wrong with it."""
        self._seen = self._stamp()
        try:
            until = usable_until(self._cert, self._key, self._clock())
            self.context.load_cert_chain(self._cert, self._key, _no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self.trouble = _why(error)
            log.error("the new metrics_tls_cert is not used: %s", self.trouble)
            return
        self.trouble = ""
        self._until = until
        log.info("the certificate of /metrics is good for %d days", self.days)

    def _stamp(self) -> object:
        try:
            found = [file.stat() for file in (self._cert, self._key)]
        except OSError as error:
            return error.errno
        return [(each.st_mtime_ns, each.st_ino, each.st_size) for each in found]


def usable_until(cert: Path, key: Path, now: float) -> float:
    """When a certificate that belongs to its key expires, in Unix seconds.

    Raises OSError, ValueError: they are not whole, do not belong together, or it is over.
    """
    leaf = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    # A context of its own: the live one would be left with half a pair.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, _no_password)
    until = leaf.not_valid_after_utc.timestamp()
    if until <= now:
        raise ValueError("it has expired")
    return until


def _no_password() -> str:
    """Without this, OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return "the certificate and the key do not belong together, or are not whole"
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror}"
    return str(error) if "expired" in str(error) or "encrypted" in str(error) else "it is not PEM"
