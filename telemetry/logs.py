"""Logs on standard error, for people or as one JSON object per line.

Modules log through `logging.getLogger(__name__)` as anywhere else. What may be logged: reasons,
counts, durations, addresses, the first digits of a device key. What never is: text, names, whole
keys, secrets, and anything that was opened. An exception is logged by its kind and the lines it
came through: its message may quote what it failed on.

A relay is stricter, since it serves strangers: at level `info` and above its lines name nobody, no
address and no message; the ids of telemetry/correlation.py tie them together.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from telemetry import correlation

if TYPE_CHECKING:
    import structlog


def configure(
    *, level: str = "warning", json_lines: bool = False, to: TextIO | None = None
) -> None:
    """Send every logger of this process to `to` (standard error). Call it once, at the start.

    `level` is a name that `logging` knows, in any case. Raises ValueError for another.
    """
    stream = sys.stderr if to is None else to
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Late(json_lines=json_lines, colours=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class _Late(logging.Formatter):
    """structlog's formatter, imported with the first line: most commands log nothing."""

    def __init__(self, *, json_lines: bool, colours: bool) -> None:
        super().__init__()
        self._json_lines = json_lines
        self._colours = colours
        self._real: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._real is None:
            self._real = _formatter(json_lines=self._json_lines, colours=self._colours)
        return self._real.format(record)


def _formatter(*, json_lines: bool, colours: bool) -> logging.Formatter:
    import structlog

    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_outline),
    ]
    renderer: structlog.types.Processor
    if json_lines:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _add_trace(
    _logger: object, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    event.update(correlation.fields())
    return event


def _outline(
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None],
) -> str:
    """A traceback without messages."""
    return "".join(_lines(exc_info[1], set())).rstrip()


def _lines(error: BaseException, told: set[int]) -> Iterator[str]:
    """What came before it first, as in an ordinary traceback."""
    told.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in told:
        yield from _lines(earlier, told)
        yield "then\n"
    yield from traceback.format_tb(error.__traceback__)
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    yield f"{type(error).__qualname__}{'' if code is None else f' ({code})'}\n"
    for each in getattr(error, "exceptions", ()):
        if id(each) not in told:
            yield "of which\n"
            yield from _lines(each, told)
