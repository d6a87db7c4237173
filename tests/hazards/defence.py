"""A defence, and what proves it: with its text taken out of the source, its tests must fail."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Removal:
    """One place in the source: `text`, there exactly once, becomes `without`."""

    file: str
    text: str
    without: str

    def apply(self, root: Path) -> str:
        """The file as it was. Raises ValueError when the source has moved on."""
        source = (root / self.file).read_text()
        if source.count(self.text) != 1:
            raise ValueError(f"{self.file} has {source.count(self.text)} times {self.text!r}")
        self.write(root, source.replace(self.text, self.without))
        return source

    def write(self, root: Path, source: str) -> None:
        path = root / self.file
        path.write_text(source)
        # By its time stamp, Python may take what was compiled a moment ago for this.
        Path(cache_from_source(str(path))).unlink(missing_ok=True)


@dataclass(frozen=True)
class Defence:
    """`tests` are pytest's node ids; EACH of them must fail while the defence is out."""

    name: str
    removals: tuple[Removal, ...]
    tests: tuple[str, ...]


def defence(name: str, file: str, text: str, without: str, *tests: str) -> Defence:
    """The usual kind: one place."""
    return Defence(name, (Removal(file, text, without),), tests)
