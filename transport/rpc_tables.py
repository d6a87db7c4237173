"""What the library keeps for one RPC stream because of the peer, counted and bounded.

Cap'n Proto's RPC has no limits of its own. It keeps an answer from `Call` or `Bootstrap` until the
`Return` is sent and, unless that said that none is needed, the `Finish` is there; the parameters of
a call until its `Return`; an import for each capability received until nobody here holds it; a
question of ours until the peer's `Return`, also when we gave it up. Calls on fields of a promised
answer, promises and disembargoes queue without any of these. So both directions of the stream are
read here; what this protocol never needs is refused, the rest is counted.

An answer: none → running (Call or Bootstrap in) → unfinished (Return out) → none (Finish in); a
Return that says that no Finish is needed, or that comes after the Finish, goes straight to none.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.errors import Blame, Malformed, Refused
from schemas.limits import KIB

from .limits import TransportLimits
from .rpc_messages import Kind, RpcMessage

# Told of bytes of messages that came, or went (a negative number); whether there is room for them.
NoteHeld = Callable[[int], bool]

_SMALL = 16 * KIB  # of a message that is not all there; also without room: small calls are answered
_PASSED = frozenset((Kind.RELEASE, Kind.ABORT, Kind.UNIMPLEMENTED))  # they only let go of things


class RpcTables:
    """The bounds of one stream. Pure: no clock, no I/O."""

    def __init__(self, limits: TransportLimits, note_held: NoteHeld = lambda _: True) -> None:
        self._limits = limits
        self._note_held = note_held
        self._unread = 0  # bytes of messages that are not passed on
        self._over = False
        self._most = limits.rpc_calls_in_flight * limits.rpc_questions_per_call
        self._running: dict[int, int] = {}  # question of the peer: bytes of its call
        self._given_up: set[int] = set()  # of these, finished before they were answered
        self._unfinished: set[int] = set()
        self._bootstraps: set[int] = set()  # not finished: calls may be made to their answers
        self._asked: set[int] = set()  # questions of ours without a Return
        self._bytes = 0  # of running calls
        self.methods = 0  # that run here; the answer of one that ignores its end has left

    @property
    def answers(self) -> int:
        """Entries of the library's answer table, one way or another."""
        return len(self._running) + len(self._unfinished)

    @property
    def owing(self) -> bool:
        """Whether a method has ended and its Return is not sent, or one has yet to begin."""
        return len(self._running) > self.methods

    def received(self, message: RpcMessage, size: int) -> bool:
        """Take note of a message of `size` bytes, unless it has to wait until `sent` says more
        or a method ends.

        Raises Malformed and Refused, the codes of which docs/transport.md has.
        """
        kind = message.kind
        if kind == Kind.CALL:
            return self._call(message, size)
        if kind == Kind.FINISH:
            self._finish(message.question)
        elif kind == Kind.RETURN:
            self._check_payload(message)
            if message.question not in self._asked:
                raise Malformed("rpc-malformed", "An RPC answer to no question")
            self._asked.discard(message.question)
        elif kind == Kind.BOOTSTRAP:
            self._open(message.question, 0)
            self._bootstraps.add(message.question)
        elif kind not in _PASSED:
            raise _refused("rpc-kind", f"An RPC message of kind {kind}, which nobody needs here")
        return True

    def unread(self, size: int) -> None:
        """So many bytes wait to be a whole message, or to be let in.

        Raises Refused `rpc-memory` when they become more than a little and there is no room.
        """
        change, self._unread = size - self._unread, size
        if change and not self._note(change) and change > 0 and size > _SMALL:
            raise _refused("rpc-memory", "A long RPC message while there is no memory for it")

    def over(self) -> None:
        """The stream has ended: nothing is held for it. Idempotent."""
        self._note(-self._bytes - self._unread)
        self._over = True

    def _note(self, change: int) -> bool:
        return self._over or self._note_held(change)

    def sent(self, message: RpcMessage) -> None:
        """Take note of a message of ours. Raises Refused `rpc-unanswered`."""
        kind, question = message.kind, message.question
        if kind == Kind.RETURN:
            size = self._running.pop(question, 0)
            self._bytes -= size
            self._note(-size)
            if question in self._given_up:
                self._given_up.discard(question)
            elif not message.final:
                self._unfinished.add(question)
        elif kind == Kind.CALL or kind == Kind.BOOTSTRAP:
            self._asked.add(question)
            if len(self._asked) > self._most:
                raise _refused(
                    "rpc-unanswered", "The peer answers none of our calls, not even late"
                )

    def _call(self, message: RpcMessage, size: int) -> bool:
        self._check_payload(message)
        if message.promised is not None and message.promised not in self._bootstraps:
            raise _refused("rpc-pipelining", "An RPC call on an answer that has no capabilities")
        limits, running = self._limits, max(len(self._running), self.methods)
        if running >= limits.rpc_calls_in_flight or (
            running and self._bytes + size > limits.rpc_call_bytes
        ):
            return False
        self._open(message.question, size)
        return True

    def _open(self, question: int, size: int) -> None:
        if question in self._running or question in self._unfinished:
            raise Malformed("rpc-malformed", "An RPC question under a number that is in use")
        if self.answers >= self._most:
            raise _refused("rpc-unfinished", "The peer finishes too few of its RPC questions")
        self._running[question] = size
        self._bytes += size
        self._note(size)

    def _finish(self, question: int) -> None:
        # One that is not there is no fault: it may have crossed a Return that needs none.
        self._bootstraps.discard(question)
        if question in self._running:
            self._given_up.add(question)
        else:
            self._unfinished.discard(question)

    def _check_payload(self, message: RpcMessage) -> None:
        if message.capabilities > self._limits.rpc_capabilities:
            raise _refused("rpc-capabilities", "An RPC message with more capabilities than allowed")
        if not message.plain:
            raise _refused("rpc-kind", "An RPC tail call, promise or third party: not needed here")


def _refused(code: str, message: str) -> Refused:
    return Refused(code, message, blame=Blame.PEER)
