"""TUN and TAP devices: what the kernel sends there, a program reads, and the other way round."""

from __future__ import annotations

import fcntl
import os
import struct
from enum import IntEnum
from pathlib import Path
from typing import Final

DEVICE: Final = Path("/dev/net/tun")
PACKET_BYTES: Final = 65_536
_TUNSETIFF: Final = 0x400454CA
_IFF_NO_PI: Final = 0x1000
_IFREQ: Final = struct.Struct("16sH22x")


class Layer(IntEnum):
    """What is read and written: the kernel's IFF_TUN and IFF_TAP."""

    PACKETS = 1
    FRAMES = 2


def reason_against_tun() -> str:
    """Why no such device can be made here, and what to do; empty where it can."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
    except OSError as error:
        return f"{DEVICE} cannot be opened ({error.strerror}): give this container that device"
    return ""


def open_tun(layer: Layer) -> tuple[int, str]:
    """A new device, non-blocking, and its name; it goes when it is closed. Raises OSError."""
    device = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    request = _IFREQ.pack(b"qnc%d", layer | _IFF_NO_PI)
    name, _ = _IFREQ.unpack(fcntl.ioctl(device, _TUNSETIFF, request))
    return device, name.rstrip(b"\0").decode()
