"""The method on relay statements: publish one, or ask for somebody's."""

from __future__ import annotations

from collections.abc import Callable

from identity.relay_statement import open_relay_statement_untrusted
from relay.admission import Admission
from relay.call import Call
from relay.store.contract import RelayStore
from schemas import limits
from schemas.errors import Malformed, Refused
from schemas.ids import IdentityKey
from schemas.records import fill_signed, read_signed


class StatementMethods:
    """They raise Fault to refuse. `clock` gives Unix seconds."""

    def __init__(self, store: RelayStore, admission: Admission, clock: Callable[[], float]) -> None:
        self._store = store
        self._admission = admission
        self._clock = clock

    async def relay_statement(self, call: Call) -> None:
        """A statement is its own proof: whoever brings a newer one may."""
        with call.request() as params:
            identity = IdentityKey(params.identity)
            brought = len(params.statement.payload) > 0
            signed = read_signed(params.statement, limits.RELAY_STATEMENT) if brought else None
            statement = None if signed is None else open_relay_statement_untrusted(signed)
        if signed is None or statement is None:
            await self._answer(call, identity)
            return
        if statement.identity != identity:
            raise Malformed("wrong-signer", "the statement is of another person")
        await self._admission.introduce(call)
        call.caller.use(size=len(signed.payload))
        await self._store.statements.put(
            identity, statement.number, signed, by=call.device, now=int(self._clock())
        )

    async def _answer(self, call: Call, identity: IdentityKey) -> None:
        signed = await self._store.statements.get(identity)
        if signed is None:
            raise Refused("not-found", "the relay holds no relay statement of that person")
        open_relay_statement_untrusted(signed)
        fill_signed(call.results.init("statement"), signed)
