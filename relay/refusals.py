"""How the relay says no: refusals that tell the caller when to come again."""

from __future__ import annotations

from schemas.errors import Blame, Fault, Refused
from schemas.frames import ErrorFrame


class TryLater(Refused):
    """Refused for now; the same request may pass after `retry_after_ms`."""

    def __init__(self, code: str, message: str, *, retry_after_ms: int, hint: str = "") -> None:
        super().__init__(code, message, blame=Blame.ENVIRONMENT, hint=hint)
        self.retry_after_ms = retry_after_ms


def error_frame(fault: Fault) -> ErrorFrame:
    """What of a fault crosses the wire: the four fields written on purpose, nothing else."""
    retry_after_ms = fault.retry_after_ms if isinstance(fault, TryLater) else 0
    return ErrorFrame(fault.code, fault.message, fault.hint, retry_after_ms)
