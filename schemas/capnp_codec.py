"""Cap'n Proto with limits: the one place that touches the untyped library for messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import capnp

from schemas.errors import Blame, Fault, Malformed
from schemas.ids import Id
from schemas.limits import COUNTER, NESTING, traversal_words
from schemas.times import LAST_S

FOLDER = Path(__file__).parent

T = TypeVar("T")
I = TypeVar("I", bound=Id)  # noqa: E741 - I for Id


def load(name: str) -> Any:
    """The module of schema file `name`. Raises Fault `no-current-folder` where it would abort."""
    try:
        Path.cwd()
    except OSError as error:
        raise Fault(
            "no-current-folder",
            f"the current folder cannot be used: {error.strerror}",
            blame=Blame.ENVIRONMENT,
            hint="change to another folder",
        ) from None
    return capnp.load(str(FOLDER / name))


_BAD_BYTES = (capnp.KjException, ValueError, OverflowError, TypeError, RuntimeError)


class blaming_the_peer:
    """Turns every error that bad bytes can cause in the library into Malformed."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> Any:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, _BAD_BYTES) and not isinstance(error, Malformed):
            what = self._what
            # The library's own text names source files and lines; it stays on this side.
            raise Malformed(f"malformed-{what}", f"not a valid {what.replace('-', ' ')}") from error


class reading(blaming_the_peer):
    """A reader over `data`; whatever goes wrong inside the block is Malformed.

    Classes, because a message passes six of these: generators took five times as long.
    """

    __slots__ = ("_data", "_limit", "_open", "_struct")

    def __init__(self, struct: Any, data: bytes, *, limit: int, what: str) -> None:
        super().__init__(what)
        self._struct, self._data, self._limit = struct, data, limit

    def __enter__(self) -> Any:
        size = len(self._data)
        if size > self._limit:
            raise Malformed(f"oversized-{self._what}", f"{size} bytes; the limit is {self._limit}")
        try:
            self._open = self._struct.from_bytes(
                self._data,
                traversal_limit_in_words=traversal_words(size),
                nesting_limit=NESTING,
            )
            return self._open.__enter__()
        except _BAD_BYTES as error:
            super().__exit__(type(error), error, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)
        super().__exit__(kind, error, traceback)


def text(value: str, limit: int) -> str:
    """`value` when its UTF-8 form fits; control characters are refused (they forge terminals)."""
    if len(value.encode()) > limit:
        raise ValueError("text too long")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("control character in a name")
    return value


def items(values: Any, limit: int, convert: Callable[[Any], T]) -> tuple[T, ...]:
    """A list of at most `limit` elements, counted before any is touched."""
    if len(values) > limit:
        raise ValueError("list too long")
    return tuple(convert(value) for value in values)


def ids(values: Any, limit: int, kind: type[I]) -> tuple[I, ...]:
    return items(values, limit, lambda value: kind(bytes(value)))


def sized(value: Any, limit: int) -> bytes:
    """Bytes of at most `limit`."""
    data = bytes(value)
    if len(data) > limit:
        raise ValueError("data too long")
    return data


def exactly(value: Any, length: int) -> bytes:
    """Bytes of exactly `length`."""
    data = bytes(value)
    if len(data) != length:
        raise ValueError(f"{length} bytes expected")
    return data


def counter(value: int) -> int:
    """A number of 0 to COUNTER. Raises ValueError."""
    if not 0 <= value <= COUNTER:
        raise ValueError("number out of range")
    return int(value)


def unix_time(value: int) -> int:
    """Unix seconds of a date that can be shown. Raises ValueError."""
    if not 0 <= value <= LAST_S:
        raise ValueError("time out of range")
    return int(value)


def which(reader: Any) -> str:
    """The union member's name; Malformed `unknown-kind` for one of a newer version."""
    try:
        return str(reader._which_str())  # `which()` makes an enum of all names first
    except (capnp.KjException, ValueError) as error:
        raise Malformed(
            "unknown-kind", "a kind this version does not know", hint="upgrade this node"
        ) from error
