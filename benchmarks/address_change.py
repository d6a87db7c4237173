"""The network changes under a talk of 50 messages a second each way: how long nothing is shown.

Real nodes and a relay in network namespaces, with nftables routers between them; needs root.
"""

from __future__ import annotations

import statistics
import sys
from typing import Final

from benchmarks.report import Row
from simulation.processes.nat.internet import reason_against
from simulation.processes.nat.moving import PER_SECOND, Change, Outcome, Peer, measure

_TIMES: Final = 5
# A NAT with another port for each peer meets only a public one.
_ALL: Final = [
    (change, peer)
    for change in Change
    for peer in Peer
    if (change, peer) not in ((Change.MAPPING, Peer.DIALLED), (Change.MAPPING, Peer.DIALLING))
]


def rows(quick: bool) -> list[Row]:
    """The silence at each change, and what was lost or shown twice in all of them."""
    if reason := reason_against():
        print(reason, file=sys.stderr)
        return []
    found = {each: [measure(*each) for _ in range(1 if quick else _TIMES)] for each in _ALL}
    every = [outcome for outcomes in found.values() for outcome in outcomes]
    messages = sum(outcome.messages for outcome in every)
    return [
        *(_silence(change, peer, outcomes) for (change, peer), outcomes in found.items()),
        _none("lost", sum(outcome.lost for outcome in every), messages),
        _none("shown twice", sum(outcome.repeated for outcome in every), messages),
    ]


def _silence(change: Change, peer: Peer, outcomes: list[Outcome]) -> Row:
    to_s = statistics.median(outcome.to_s for outcome in outcomes)
    from_s = statistics.median(outcome.from_s for outcome in outcomes)
    worst = max(max(outcome.to_s, outcome.from_s) for outcome in outcomes)
    direct = [outcome.direct_s for outcome in outcomes if outcome.direct_s is not None]
    again = f"; direct after {1000 * statistics.median(direct):.0f} ms" if direct else ""
    by_relay = len(outcomes) - len(direct)
    return Row(
        f"{change}; peer {peer}",
        1000 * max(to_s, from_s),
        "ms",
        1000 / PER_SECOND,
        "between two messages",
        note=f"worst of {len(outcomes)}: {1000 * worst:.0f} ms{again}"
        + (f"; {by_relay} times only by relay" if by_relay else ""),
    )


def _none(what: str, count: int, messages: int) -> Row:
    return Row(what, count, f"of {messages}", target=0, of="value", at_least=False)
