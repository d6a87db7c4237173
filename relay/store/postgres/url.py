"""Where a database is, as the settings say it; needs no driver."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

SCHEMES: Final = ("postgresql", "postgres")
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
