"""A Fault as HTTP, and back: the status follows the blame."""

from __future__ import annotations

from typing import Final

from node.api.shapes import ErrorAnswer, ErrorDetail
from schemas.errors import Blame, Fault, Unreachable

NOT_FOUND: Final = frozenset(
    {"unknown-person", "unknown-group", "unknown-message", "unknown-operation", "no-account"}
)
UNREACHABLE_CODES: Final = frozenset({"unreachable", "connection-lost", "no-path"})
_STATUS: Final = {
    Blame.CALLER: 400,
    Blame.PEER: 502,
    Blame.INCOMPATIBLE: 501,
    Blame.ENVIRONMENT: 503,
}
_NO_PATH: Final = 504


def is_unreachable(fault: Fault) -> bool:
    """Whether there was no network path, as opposed to a refusal."""
    return isinstance(fault, Unreachable) or (
        fault.blame is Blame.ENVIRONMENT and fault.code in UNREACHABLE_CODES
    )


def status_of(fault: Fault) -> int:
    if is_unreachable(fault):
        return _NO_PATH
    if fault.code in NOT_FOUND:
        return 404
    if fault.code == "internal":
        return 500
    return _STATUS[fault.blame]


def answer_of(fault: Fault) -> ErrorAnswer:
    return ErrorAnswer(
        error=ErrorDetail(
            code=fault.code,
            message=fault.message,
            hint=fault.hint,
            blame=str(fault.blame),
            retry_after_s=fault.retry_after_s,
        )
    )


def fault_of(status: int, answer: ErrorAnswer) -> Fault:
    """What the server raised."""
    detail = answer.error
    if status == _NO_PATH:
        return Unreachable(detail.code, detail.message, hint=detail.hint)
    blame = Blame(detail.blame) if detail.blame in set(Blame) else Blame.CALLER
    fault = Fault(detail.code, detail.message, blame=blame, hint=detail.hint)
    fault.retry_after_s = detail.retry_after_s
    return fault
