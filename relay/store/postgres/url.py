"""Where a database is, as the settings say it; needs no driver."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import parse_qs, urlsplit

from schemas.addresses import Address

SCHEMES: Final = ("postgresql", "postgres")
PORT: Final = 5432  # PostgreSQL's own
FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def check_url(url: str) -> None:
    """Raises ValueError that says what would be right, and nothing of the URL."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in SCHEMES and len(parts.path) > 1 and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"write {FORM}")


def server_of(url: str) -> str:
    """Host and port, or the folder of its socket; nothing else of the URL."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    try:
        port = str(parts.port or "")
    except ValueError:  # `check_url` takes none of these: there may be anything in it
        return ""
    host = parts.hostname or query.get("host", [os.environ.get("PGHOST", "")])[0]
    port = port or query.get("port", [os.environ.get("PGPORT", str(PORT))])[0]
    if host.startswith("/"):
        return f"{host}, port {port}"
    if not host or not port.isdigit():
        return f"{host or 'this machine'}, port {port}"
    return str(Address(host, int(port)))
