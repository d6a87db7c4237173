"""Breaks modules on their way into this process: what is on disk stays as it is."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from simulation.planted.bug import Change


class _Broken(SourceFileLoader):
    def __init__(self, name: str, path: str, changes: Sequence[Change]) -> None:
        super().__init__(name, path)
        self._changes = changes

    def get_code(self, fullname: str) -> CodeType:
        """From the source alone: what was compiled before is not broken."""
        source = self.get_source(fullname) or ""
        for change in self._changes:
            source = change.apply(source)
        return compile(source, self.get_filename(fullname), "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, changes: Iterable[Change]) -> None:
        self._changes: defaultdict[str, list[Change]] = defaultdict(list)
        for change in changes:
            self._changes[change.module].append(change)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._changes:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Broken(fullname, spec.origin, self._changes[fullname])
        return spec


def plant(changes: Iterable[Change]) -> None:
    """For modules that nobody imported yet. Raises RuntimeError when one is.

    A module whose source has moved on raises LookupError when it is imported.
    """
    found = list(changes)
    late = sorted({change.module for change in found} & sys.modules.keys())
    if late:
        raise RuntimeError(f"already imported: {', '.join(late)}")
    sys.meta_path.insert(0, _Finder(found))
