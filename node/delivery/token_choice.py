"""Which of the delivery tokens that may open a mailbox is shown first: the one that did last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from schemas.ids import DeviceKey

TOKEN_REFUSED: Final = "delivery-token-refused"  # noqa: S105 - the relay's code


class TokenChoice:
    """Remembers as many recipients as it is told to, those used last."""

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._worked: OrderedDict[DeviceKey, bytes] = OrderedDict()

    def order(self, device: DeviceKey, tokens: Sequence[bytes]) -> list[bytes]:
        last = self._worked.get(device)
        return sorted(tokens, key=lambda token: token != last)

    def worked(self, device: DeviceKey, token: bytes) -> None:
        self._worked[device] = token
        self._worked.move_to_end(device)
        if len(self._worked) > self._remembered:
            self._worked.popitem(last=False)
