"""Fixtures that the nodes of other tests use as well."""

from tests.fixtures import kj, no_leaked_tasks

__all__ = ["kj", "no_leaked_tasks"]
