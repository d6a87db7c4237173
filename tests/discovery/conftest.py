"""No task outlives its test."""

from __future__ import annotations

from tests.fixtures import no_leaked_tasks
