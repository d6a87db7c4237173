"""Run in a namespace: keeps a port mapped, prints each outcome as JSON, and echoes what comes in.

With the name of a protocol only that one is asked. Ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import cast

from schemas.addresses import Address
from transport.port_mapping import Mapped, MappingLimits, Outcome, PortMapper, mapper

PORT = 7000
LIMITS = MappingLimits(hint_s=0.5)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


def told(outcome: Outcome) -> None:
    if isinstance(outcome, Mapped):
        said = {"external": str(outcome.external), "protocol": outcome.protocol.value}
    else:
        said = {"code": outcome.code, "detail": outcome.detail}
    print(json.dumps(said), flush=True)


async def main(only: str) -> None:
    if only:
        clients = tuple(each for each in mapper._CLIENTS if each.protocol == only)
        mapper._CLIENTS = clients  # type: ignore[misc, assignment]
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, local_addr=("0.0.0.0", PORT))
    found = PortMapper(Address("0.0.0.0", PORT), told, Counter(), limits=LIMITS)
    found.start()
    await asyncio.to_thread(sys.stdin.read)
    await found.close()


asyncio.run(main(sys.argv[1]))
