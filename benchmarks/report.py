"""The shape of a result, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `value` and `beside` are in `unit`; `beside` is None without a reference.

    `ratio` is value / beside. The target holds for the ratio, or for the value (`of="value"`).
    """

    what: str
    value: float
    unit: str
    beside: float | None = None
    reference: str = ""
    target: float | None = None
    of: Literal["ratio", "value"] = "ratio"
    at_least: bool = True  # the target is a floor; False: a ceiling
    note: str = ""
    data: dict[str, float | str] = field(default_factory=dict)  # what a plot is made of

    @property
    def ratio(self) -> float | None:
        return None if self.beside is None else self.value / self.beside

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        measured = self.value if self.of == "value" else self.ratio
        if self.target is None or measured is None:
            return None
        return measured >= self.target if self.at_least else measured <= self.target

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


def target_text(row: Row) -> str:
    """`>= 4x` or `<= 5 ms`; empty without a target."""
    if row.target is None:
        return ""
    unit = "x" if row.of == "ratio" else f" {row.unit}"
    return f"{'>=' if row.at_least else '<='} {row.target:g}{unit}"


def met_text(row: Row) -> str:
    """`met`, `MISSED`, or nothing without a target."""
    return {True: "met", False: "MISSED", None: ""}[row.met]
