"""What goes wrong between two endpoints, and how a connection ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aioquic.quic.packet import QuicErrorCode

from schemas.errors import Blame, Fault


class EndedBy(StrEnum):
    """Which side, or what, ended a connection."""

    LOCAL = "local"  # we closed it
    PEER = "peer"  # the peer said so
    RESET = "reset"  # the peer has forgotten the connection, as after a restart
    SILENCE = "silence"  # nothing was heard for the idle timeout
    PROTOCOL = "protocol"  # the peer broke the protocol and we closed it


@dataclass(frozen=True)
class CloseReason:
    """How a connection ended.

    `code` and `text` are the application's when `application` is true, else QUIC's (RFC 9000,
    section 20.1). `text` came from the peer when `by` is PEER: show it as quoted, never act on it.
    """

    by: EndedBy
    code: int
    text: str
    application: bool = False

    def __str__(self) -> str:
        said = f": {self.text}" if self.text else ""
        return f"ended by {self.by} with code {self.code}{said}"


class ConnectionLost(Fault):
    """The connection under a call is over; `reason` says how.

    Blame is PEER when the peer broke the protocol, else ENVIRONMENT.
    """

    reason: CloseReason | None = None

    @classmethod
    def because(cls, reason: CloseReason) -> ConnectionLost:
        lost = cls(
            "connection-lost",
            f"The connection is over, {reason}",
            blame=Blame.PEER if reason.by is EndedBy.PROTOCOL else Blame.ENVIRONMENT,
            hint="It is dialled again by itself when there is something to send.",
        )
        lost.reason = reason
        return lost


class StreamReset(Fault):
    """One direction of a stream was ended abruptly; `error_code` is the application's."""

    error_code: int = 0

    @classmethod
    def by_peer(cls, stream_id: int, error_code: int) -> StreamReset:
        fault = cls(
            "stream-reset",
            f"The peer ended stream {stream_id} with code {error_code}",
            blame=Blame.PEER,
        )
        fault.error_code = error_code
        return fault

    @classmethod
    def by_us(cls, stream_id: int) -> StreamReset:
        return cls(
            "stream-closed",
            f"Stream {stream_id} was already finished or reset on this side",
            blame=Blame.CALLER,
        )


class StreamCode:
    """Application error codes that this layer itself sends in RESET_STREAM and STOP_SENDING."""

    CANCELLED = 1  # nobody here wants it any more
    REFUSED = 2  # more streams wait to be accepted than `accept_queue`


class CloseCode:
    """Application error codes that this layer itself sends in CONNECTION_CLOSE."""

    NORMAL = 0
    INTERNAL = 1  # the handler of the connection crashed
    PROTOCOL = 2  # the handler found bytes that no honest peer sends
    HANDLER_DONE = 3  # the handler returned, so nobody is left to read
    RACE_LOST = 4  # another candidate address of the same peer answered first


def name_of_code(code: int) -> str:
    """A transport error code (RFC 9000, 20.1) as part of a counter's name."""
    try:
        return QuicErrorCode(code).name.lower().replace("_", "-")
    except ValueError:
        return "tls-alert"
