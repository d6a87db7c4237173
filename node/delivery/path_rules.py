"""What the user's path policies allow: which addresses are dialled, and which links stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from discovery.resolver import Found
from discovery.scope import NetworksNow
from node.delivery.asking import Ask
from node.engine.blocking import Away
from node.engine.delivery_commands import LookUpPeer
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey
from schemas.path_policy import PathPolicy
from transport import Connection
from transport.key_exchange import Group

POLICY: Final = "policy-"  # begins the codes of what a policy forbids


class PathRules:
    def __init__(self, ask: Ask, networks: NetworksNow) -> None:
        self._ask = ask
        self._networks = networks

    async def of(self, device: DeviceKey) -> PathPolicy:
        """Raises Fault."""
        return (await self._ask(LookUpPeer(device))).policy

    def dialable(self, policy: PathPolicy, found: Sequence[Found]) -> list[Found]:
        """Those of the addresses that may be dialled. Raises Refused `policy-relay-only`."""
        if policy.hides_address:
            raise forbidden(policy)
        if policy is not PathPolicy.LAN_ONLY:
            return list(found)
        networks = self._networks()
        return [each for each in found if networks.on_link(each.address.address.host)]

    async def admit(self, connection: Connection) -> None:
        """A proven peer, before anything is said to it. Raises Fault: it gets no link.

        Where our address is hidden from the peer, it sees what it would if we were away.
        """
        policy = await self.of(connection.peer)
        if policy.hides_address:
            raise Away("away", "the node stops", blame=Blame.ENVIRONMENT)
        if policy is PathPolicy.LAN_ONLY and not self._networks().on_link(connection.remote.host):
            raise Away("away", "the node stops", blame=Blame.ENVIRONMENT)
        classic = connection.key_exchange != Group.X25519MLKEM768.name
        if policy is PathPolicy.POST_QUANTUM_ONLY and classic:
            raise Refused("not-post-quantum", "the peer has no post-quantum key exchange")


def forbidden(policy: PathPolicy) -> Fault:
    return Refused(
        f"{POLICY}{policy.value}",
        f"the path policy for this person is {policy.value}",
        hint="`quicnprotochat policy` shows and changes it",
    )
