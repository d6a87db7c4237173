"""The one shape of failure: who is to blame, a stable code, what happened, what to do."""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """Whose fault it is, which decides what can be done about it."""

    PEER = "peer"  # the other side broke the protocol: drop, count, maybe disconnect
    INCOMPATIBLE = "incompatible"  # both are right, by different versions: upgrade one
    CALLER = "caller"  # our user or our own code asked for something impossible
    ENVIRONMENT = "environment"  # disk, network, clock: try again when it is mended


class Fault(Exception):
    """A failure with blame, a stable kebab-case `code`, a message and a hint for the user.

    Every exception this project raises on purpose is a Fault; anything else is a bug.
    `retry_after_s`: the other side's word when the same may pass; 0 for none.
    """

    retry_after_s: float = 0.0

    def __init__(self, code: str, message: str, *, blame: Blame, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.blame = blame
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.blame, self.hint))

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


def _rebuild(cls: type[Fault], code: str, message: str, blame: Blame, hint: str) -> Fault:
    fault = cls.__new__(cls)
    Fault.__init__(fault, code, message, blame=blame, hint=hint)
    return fault


class Malformed(Fault):
    """Bytes from the network are not what they claim to be.

    The one exception type of every function that reads untrusted bytes.
    """

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message, blame=Blame.PEER, hint=hint)


class Refused(Fault):
    """The request is understood and refused; `code` says which rule."""

    def __init__(
        self, code: str, message: str, *, blame: Blame = Blame.CALLER, hint: str = ""
    ) -> None:
        super().__init__(code, message, blame=blame, hint=hint)


class Unreachable(Fault):
    """No network path to a peer or relay within the deadline."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message, blame=Blame.ENVIRONMENT, hint=hint)
