"""A planted bug: a rule of the program, broken in its source text, and the run that shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One place in a module: `text`, there exactly once, becomes `broken`."""

    module: str
    text: str
    broken: str

    def apply(self, source: str) -> str:
        """Raises LookupError when the source has moved on."""
        if source.count(self.text) != 1:
            raise LookupError(f"{self.module} has {source.count(self.text)} times {self.text!r}")
        return source.replace(self.text, self.broken)


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    area: str  # of the program: fork choice, convergence, repair, store, ...
    rule: str  # that is broken
    harm: str  # what users would see of it
    changes: tuple[Change, ...]
    scenario: str
    nodes: int
    found_by: tuple[str, ...]  # one of these invariants
    seed: int = 0
    tier: str = "world"

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(change.module for change in self.changes))
