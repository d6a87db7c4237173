"""Whether hosts that we have sent nothing to can reach us: then nothing before us filters."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_DIALLED: Final = 4_096  # hosts remembered; above, one may look like a stranger again
_STRANGERS: Final = 16


class Strangers:
    """Hosts that dialled us before we dialled them, over one socket."""

    def __init__(self) -> None:
        self._dialled: OrderedDict[str, None] = OrderedDict()
        self._came: OrderedDict[str, None] = OrderedDict()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The last few, oldest first."""
        return tuple(self._came)

    def dialled(self, host: str) -> None:
        _remember(self._dialled, host, _DIALLED)

    def accepted(self, host: str) -> None:
        """Its address is proven: the handshake is complete."""
        if host not in self._dialled:
            _remember(self._came, host, _STRANGERS)

    def forget(self) -> None:
        """We are on another network: who came before says nothing of this one."""
        self._came.clear()


def _remember(hosts: OrderedDict[str, None], host: str, most: int) -> None:
    hosts[host] = None
    hosts.move_to_end(host)
    if len(hosts) > most:
        hosts.popitem(last=False)
