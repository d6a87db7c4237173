"""What a log line holds of an exception: where and what kind, and none of its words."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from schemas.errors import Refused
from telemetry.logs import configure

SECRET = "gorgonzola"


@pytest.fixture
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def fail_on(text: str) -> None:
    try:
        dict[str, int]()[text]
    except KeyError as error:
        raise ExceptionGroup(text, [OSError(28, text), Refused("too-salty", text)]) from error


@pytest.mark.parametrize("json_lines", [False, True])
def test_an_exception_is_logged_without_its_message(root: None, json_lines: bool) -> None:
    """A message may quote what it failed on: a text, a name, a key."""
    to = io.StringIO()
    configure(json_lines=json_lines, to=to)
    try:
        fail_on(SECRET)
    except ExceptionGroup:
        logging.getLogger("test").exception("it failed")
    told = to.getvalue()

    assert SECRET not in told
    for wanted in ("it failed", "KeyError", "ExceptionGroup", "OSError (28)", "too-salty"):
        assert wanted in told
    assert told.count("in fail_on") == 2, "the lines that it came through"
    if json_lines:
        assert {"event", "level", "exception"} <= json.loads(told).keys()
