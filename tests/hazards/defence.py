"""A defence, and what proves it: with its text taken out of the source, its tests must fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Removal:
    """One place in the source: `text`, there exactly once, becomes `without`."""

    file: str
    text: str
    without: str

    def apply(self, root: Path) -> None:
        """Raises ValueError when the source has moved on."""
        path = root / self.file
        source = path.read_text()
        if source.count(self.text) != 1:
            raise ValueError(f"{self.file} has {source.count(self.text)} times {self.text!r}")
        path.write_text(source.replace(self.text, self.without))

    def undo(self, root: Path) -> None:
        (root / self.file).write_bytes((ROOT / self.file).read_bytes())


@dataclass(frozen=True)
class Defence:
    """`tests` are pytest's node ids; EACH of them must fail while the defence is out."""

    name: str
    removals: tuple[Removal, ...]
    tests: tuple[str, ...]


def defence(name: str, file: str, text: str, without: str, *tests: str) -> Defence:
    """The usual kind: one place."""
    return Defence(name, (Removal(file, text, without),), tests)
