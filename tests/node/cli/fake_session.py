"""A Session that answers from a table, for what commands print and how they end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from node.api.operations import Operation
from node.api.settings import NodeSettings

IDENTITY, DEVICE, GROUP, MESSAGE = "a1" * 32, "d2" * 32, "91" * 16, "3f" * 16
ROUTE = "relay.example:7000#" + DEVICE


@dataclass
class FakeSession:
    """`answers` by operation: a value, a Fault to raise, or a function of the request.

    `stream` is what `events` yields after `subscribed`, before its deadline comes.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    stream: Sequence[dict[str, Any]] = ()
    asked: list[tuple[str, Any]] = field(default_factory=list)
    settings: NodeSettings | None = None

    def open(self, settings: NodeSettings) -> FakeSession:
        self.settings = settings
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def call(self, operation: Operation[Any, Any], request: Any, *, timeout_s: float = 0) -> Any:
        self.asked.append((operation.name, request))
        answer = self.answers[operation.name]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def events(
        self, deadline: float | None = None, *, cursor: str = ""
    ) -> Generator[dict[str, Any], None, None]:
        yield from itertools.chain([{"event": "subscribed"}], self.stream)
