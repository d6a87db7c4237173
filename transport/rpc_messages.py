"""What a Cap'n Proto RPC message asks for, read before the library acts on it; no state, no I/O.

Only the outer structs of rpc.capnp (`Message`, `Call`, `Return` …) are read, never parameters or
results: a fixed number of pointers, whatever the peer wrote. The offsets below are rpc.capnp's; a
test compares them with the schema that pycapnp ships.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from schemas.errors import Malformed

_ANY_SIZE: Final = 1 << 62  # of a message of ours: the library bounds it
_MOST_SEGMENTS: Final = 512  # the library's own limit, too
_STRUCT, _LIST, _FAR = 0, 1, 2  # the low two bits of a pointer
_COMPOSITE: Final = 7  # the size class of a list of structs
_CALLER: Final = 0  # Call.sendResultsTo
_IMPORTED_CAP, _PROMISED_ANSWER = 0, 1  # MessageTarget
_ONLY_PROMISE_PIPELINE: Final = 0b100  # Call: no Return will be needed
_MOST_DESCRIPTORS: Final = 64  # looked at; more than any limit allows
_NO_FINISH_NEEDED: Final = 0b10 << 32  # Return
_RESULTS, _CANCELED = 0, 2  # Return; between them an exception, above them tail calls
_NONE, _SENDER_HOSTED, _RECEIVER_HOSTED = 0, 1, 3  # CapDescriptor

_word = Struct("<Q").unpack_from
_half_words = Struct("<II").unpack_from

Buffer = bytes | bytearray | memoryview
_Segments = list[tuple[int, int]]  # where each begins and ends in the buffer
_Place = tuple[int, int, int, int]  # segment, offset in the buffer, words of data, pointers

_ABSENT: Final[_Place] = (0, 0, 0, 0)  # a null pointer: every field has its default


class Kind(IntEnum):
    """`Message`'s union, as far as this protocol's two parties use it."""

    UNIMPLEMENTED = 0
    ABORT = 1
    CALL = 2
    RETURN = 3
    FINISH = 4
    RELEASE = 6
    BOOTSTRAP = 8


# An enum's member costs as much to look up as a field to read.
_CALL, _RETURN, _FINISH, _BOOTSTRAP = map(
    int, (Kind.CALL, Kind.RETURN, Kind.FINISH, Kind.BOOTSTRAP)
)


# For `_read_usual`: shapes of structs, words of data and above them pointers, as pointers say them.
_BODIES: Final = {_CALL: 0x3_0003, _RETURN: 0x1_0002, _FINISH: 0x1}
_MESSAGE = _TARGET = _ANSWER = 0x1_0001
_PAYLOAD: Final = 0x2_0000
_USUAL_TAG: Final = 0  # of Call.sendResultsTo, the caller; of Return, results
_four_words = Struct("<4Q").unpack_from


class RpcMessage(NamedTuple):
    """One message. Of a `kind` that is no `Kind` nothing else is read."""

    end: int  # the offset behind it
    kind: int
    question: int = 0  # of CALL, BOOTSTRAP, RETURN, FINISH
    promised: int | None = None  # CALL: made to the answer of that question
    capabilities: int = 0  # CALL, RETURN: descriptors; the receiver keeps a place for each
    # CALL, RETURN: no tail call, no third party, no promise, no field of a promised answer
    plain: bool = True
    final: bool = False  # RETURN: the answer is forgotten, no FINISH is needed


def read_message_untrusted(data: Buffer, start: int, most: int) -> RpcMessage | None:
    """The message at `start`; None while its end has not arrived.

    Raises Malformed `rpc-malformed`, `rpc-message-too-large` (above `most` bytes, as soon as it
    says so).
    """
    framed = _framed(data, start, most)
    if framed is None:
        return None
    segments, end = framed
    usual = _read_usual(data, segments[0][0], end) if len(segments) == 1 else None
    return usual or _read(data, segments, end)


def read_own_message(data: Buffer, start: int) -> RpcMessage | None:
    """The same of a message that the library here wrote, for less: `kind`, `question`, `final`."""
    framed = _framed(data, start, _ANY_SIZE)
    if framed is None:
        return None
    segments, end = framed
    begin, first_end = segments[0]
    if begin + 32 <= first_end:
        root, kind, body, first = _four_words(data, begin)
        if root == _MESSAGE << 32 and body == _BODIES.get(kind, 0) << 32:
            final = kind == _RETURN and bool(first & _NO_FINISH_NEEDED)
            return RpcMessage(end, kind, first & 0xFFFF_FFFF, final=final)
    return _read(data, segments, end)


def _framed(data: Buffer, start: int, most: int) -> tuple[_Segments, int] | None:
    """Where the segments of the message at `start` are, and its end; None while it is not there."""
    if len(data) - start < 8:
        return None
    further, words = _half_words(data, start)
    begin = start + 8
    end = begin + words * 8
    segments = [(begin, end)]
    if further:
        if further >= _MOST_SEGMENTS:
            raise _malformed("too many segments")
        begin = start + (further + 3) // 2 * 8
        if len(data) < begin:
            return None
        segments, end = [], begin
        for words in Struct(f"<{further + 1}I").unpack_from(data, start + 4):
            segments.append((end, end + words * 8))
            end += words * 8
    if end - start > most:
        raise Malformed("rpc-message-too-large", "An RPC message is larger than allowed")
    if len(data) < end:
        return None
    return segments, end


def _read_usual(data: Buffer, begin: int, end: int) -> RpcMessage | None:
    """What `_read` would say of a message as the library lays out nearly all of them: one segment,
    the body right behind `Message`, no capabilities. None: it is something else, or malformed."""
    if end - begin < 32:
        return None
    root, kind, body, first = _four_words(data, begin)
    if root != _MESSAGE << 32 or body != _BODIES.get(kind, 0) << 32:
        return None
    question, tag = first & 0xFFFF_FFFF, first >> 48
    if kind == _FINISH:
        return RpcMessage(end, _FINISH, question)
    payload = _near(data, begin + (56 if kind == _CALL else 40), begin, end, _PAYLOAD)
    if tag != _USUAL_TAG or not payload or _word(data, payload + 8)[0]:
        return None
    if kind == _RETURN:
        return RpcMessage(end, _RETURN, question, final=bool(first & _NO_FINISH_NEEDED))
    target = _near(data, begin + 48, begin, end, _TARGET)
    if not target or _word(data, begin + 40)[0] & _ONLY_PROMISE_PIPELINE:
        return None
    which = _word(data, target)[0] >> 32 & 0xFFFF
    if which == _IMPORTED_CAP:
        return RpcMessage(end, _CALL, question)
    answer = _near(data, target + 8, begin, end, _ANSWER)
    if which != _PROMISED_ANSWER or not answer or _word(data, answer + 8)[0]:
        return None
    return RpcMessage(end, _CALL, question, _word(data, answer)[0] & 0xFFFF_FFFF)


def _near(data: Buffer, at: int, begin: int, end: int, shape: int) -> int:
    """Where the struct of this shape behind a near pointer begins; 0: it is something else."""
    if at + 8 > end:
        return 0
    pointer = _word(data, at)[0]
    there = at + 8 + _offset(pointer)
    words = (shape & 0xFFFF) + (shape >> 16)
    usual = pointer >> 32 == shape and not pointer & 3 and begin <= there <= end - words * 8
    return there if usual else 0


def _read(data: Buffer, segments: _Segments, end: int) -> RpcMessage:
    begin = segments[0][0]
    if begin + 8 > segments[0][1]:
        raise _malformed("no root")
    message = _struct(data, segments, 0, begin)
    kind = _data(data, message, 0) & 0xFFFF
    if kind == _CALL:
        return _read_call(data, segments, _pointer(data, segments, message, 0), end)
    if kind == _RETURN:
        return _read_return(data, segments, _pointer(data, segments, message, 0), end)
    if kind in (_FINISH, _BOOTSTRAP):
        body = _pointer(data, segments, message, 0)
        return RpcMessage(end, kind, _data(data, body, 0) & 0xFFFF_FFFF)
    return RpcMessage(end, kind)


def _read_call(data: Buffer, segments: _Segments, call: _Place, end: int) -> RpcMessage:
    first = _data(data, call, 0)  # questionId 32 | methodId 16 | sendResultsTo 16
    plain = first >> 48 == _CALLER and not _data(data, call, 2) & _ONLY_PROMISE_PIPELINE
    target = _pointer(data, segments, call, 0)
    which = _data(data, target, 0) >> 32 & 0xFFFF  # importedCap 32 | union 16
    promised = None
    if which == _PROMISED_ANSWER:
        answer = _pointer(data, segments, target, 0)
        promised = _data(data, answer, 0) & 0xFFFF_FFFF
        plain = plain and _list(data, segments, answer, 0)[0] == 0
    elif which != _IMPORTED_CAP:
        plain = False
    count, hosted = _descriptors(data, segments, _pointer(data, segments, call, 1))
    return RpcMessage(end, _CALL, first & 0xFFFF_FFFF, promised, count, plain and hosted)


def _read_return(data: Buffer, segments: _Segments, answer: _Place, end: int) -> RpcMessage:
    first = _data(data, answer, 0)  # answerId 32 | flags 2 | … | union 16
    which = first >> 48
    count, plain = 0, which <= _CANCELED
    if which == _RESULTS:
        count, plain = _descriptors(data, segments, _pointer(data, segments, answer, 0))
    final = bool(first & _NO_FINISH_NEEDED)
    return RpcMessage(end, _RETURN, first & 0xFFFF_FFFF, None, count, plain, final)


def _descriptors(data: Buffer, segments: _Segments, payload: _Place) -> tuple[int, bool]:
    """How many capabilities a payload has, and whether each is an object that one end hosts."""
    count, at, step = _list(data, segments, payload, 1)
    if count > _MOST_DESCRIPTORS:
        return count, False
    for index in range(count if step else 0):
        which = _word(data, at + index * step)[0] & 0xFFFF
        if which not in (_NONE, _SENDER_HOSTED, _RECEIVER_HOSTED):
            return count, False
    return count, True


# Pointers (capnproto.org, "Encoding"): what is not there is absent, what is out of bounds malformed


def _data(data: Buffer, place: _Place, index: int) -> int:
    """Word `index` of a struct's data section."""
    return _word(data, place[1] + index * 8)[0] if index < place[2] else 0


def _pointer(data: Buffer, segments: _Segments, place: _Place, index: int) -> _Place:
    """The struct behind pointer `index` of a struct."""
    segment, at, words, pointers = place
    if index >= pointers:
        return _ABSENT
    return _struct(data, segments, segment, at + (words + index) * 8)


def _struct(data: Buffer, segments: _Segments, segment: int, at: int) -> _Place:
    """The struct behind the pointer at `at`, which is inside its segment."""
    pointer = _word(data, at)[0]
    if not pointer:
        return _ABSENT
    if pointer & 3 == _STRUCT:
        at += 8 + _offset(pointer)
    else:
        pointer, segment, at = _follow(data, segments, pointer, segment, at)
    words, pointers = pointer >> 32 & 0xFFFF, pointer >> 48
    begin, end = segments[segment]
    if pointer & 3 != _STRUCT or at < begin or at + (words + pointers) * 8 > end:
        raise _malformed("a struct that is none or out of bounds")
    return segment, at, words, pointers


def _list(data: Buffer, segments: _Segments, place: _Place, index: int) -> tuple[int, int, int]:
    """(elements, offset of the first, bytes of each) of the list of structs behind a pointer."""
    segment, at, words, pointers = place
    if index >= pointers:
        return 0, 0, 0
    at += (words + index) * 8
    pointer = _word(data, at)[0]
    if not pointer:
        return 0, 0, 0
    pointer, segment, at = _follow(data, segments, pointer, segment, at)
    begin, end = segments[segment]
    size = (pointer >> 35) * 8
    if pointer & 3 != _LIST or pointer >> 32 & 7 != _COMPOSITE or at < begin or at + 8 + size > end:
        raise _malformed("a list that is none, of no structs or out of bounds")
    tag = _word(data, at)[0]
    count, step = tag >> 2 & 0x3FFF_FFFF, ((tag >> 32 & 0xFFFF) + (tag >> 48)) * 8
    if tag & 3 != _STRUCT or count * step > size:
        raise _malformed("a list whose elements are out of bounds")
    return count, at + 8, step if tag >> 32 & 0xFFFF else 0


def _follow(
    data: Buffer, segments: _Segments, pointer: int, segment: int, at: int
) -> tuple[int, int, int]:
    """What a pointer at `at` is in the end, through far pointers, and where it points to."""
    if pointer & 3 != _FAR:
        return pointer, segment, at + 8 + _offset(pointer)
    segment, at = _landing(segments, pointer)
    if not pointer & 4:
        pointer = _word(data, at)[0]
        if pointer & 3 == _FAR:
            raise _malformed("a far pointer to a far pointer")
        return pointer, segment, at + 8 + _offset(pointer)
    # A double far pointer: its landing pad is a far pointer to the content, and the tag.
    far, pointer = _word(data, at)[0], _word(data, at + 8)[0]
    if far & 7 != _FAR:
        raise _malformed("a landing pad without a far pointer")
    segment, at = _landing(segments, far)
    return pointer, segment, at


def _landing(segments: _Segments, far: int) -> tuple[int, int]:
    """The segment and offset that a far pointer names; its landing pad is inside."""
    segment = far >> 32
    if segment >= len(segments):
        raise _malformed("a far pointer to no segment")
    begin, end = segments[segment]
    at = begin + (far >> 3 & 0x1FFF_FFFF) * 8
    if at + (16 if far & 4 else 8) > end:
        raise _malformed("a far pointer out of bounds")
    return segment, at


def _offset(pointer: int) -> int:
    """Bytes between a pointer and what it points to: 30 bits of words, signed, above two others."""
    return (((pointer & 0xFFFF_FFFC) ^ 0x8000_0000) - 0x8000_0000) * 2


def _malformed(what: str) -> Malformed:
    return Malformed("rpc-malformed", f"An RPC message has {what}")
