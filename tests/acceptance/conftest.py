"""Fixtures of these tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cables import Cast, MakeCast


@pytest.fixture
def make_cast(tmp_path: Path) -> Iterator[MakeCast]:
    """`make_cast(*names)`: nodes that run, and end with the test."""
    with contextlib.ExitStack() as ends:

        def make(*names: str) -> Cast:
            cast = Cast(tmp_path, *names)
            ends.callback(cast.end)
            return cast

        yield make
