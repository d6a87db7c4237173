"""Head statements: each device's signed word on which commit it stands, its vote at every fork.

A device states only a commit whose epoch secrets it holds. The highest number counts; two
statements of one device under one number are a proof of equivocation, and its votes are void.
"""

from __future__ import annotations

from collections.abc import Iterable

from identity.signing import open_signed, sign
from node.engine.core import Core
from node.engine.outbox import Outbox
from node.store.groups import GroupRow
from schemas import limits
from schemas.errors import Malformed, Refused
from schemas.group_records import Statement
from schemas.ids import CommitHash, DeviceKey, EpochId
from schemas.parcels import HeadsContent
from schemas.records import Signed, SignedType

STATEMENT_LIFETIME_S = 7 * 86_400


class Statements:
    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox

    # --- ours

    def current(self, row: GroupRow) -> Signed:
        """That we stand on the group's head; it travels with what is said there."""
        return self.say(row, row.head, row.epoch_id)

    def say(self, row: GroupRow, commit: CommitHash, epoch_id: EpochId) -> Signed:
        """Our latest statement when it is this one already, else a new one."""
        core = self._core
        me = core.device.public
        old = core.branches.statements(row.id).get(me)
        if old is not None and (old.commit, old.epoch_id) == (commit, epoch_id):
            signed = core.groups.statement(row.id, me)
            if signed is not None:
                return signed
        # From the time on, so that numbers go on after a group was forgotten and entered again.
        number = max(1, int(core.now)) if old is None else old.number + 1
        statement = Statement(row.id, min(number, limits.COUNTER), commit, epoch_id)
        signed = sign(SignedType.STATEMENT, core.device, statement.encode())
        core.groups.put_statement(me, signed, statement)
        core.branches.note_statement(me, statement)
        return signed

    def tell(self, row: GroupRow, signed: Signed, devices: Iterable[DeviceKey]) -> None:
        """A statement by itself, in place of older ones that still wait."""
        others = [device for device in devices if device != self._core.device.public]
        for device in others:
            self._core.outbox.remove_kind(row.id, "statement", device)
        self._outbox.put(
            "statement",
            HeadsContent(statements=(signed,)),
            others,
            group=row.id,
            lifetime_s=STATEMENT_LIFETIME_S,
        )

    def show(
        self, row: GroupRow, headers: tuple[Signed, ...], devices: Iterable[DeviceKey]
    ) -> None:
        """A fork, with what we said of it so far, to members who may not have seen it."""
        core = self._core
        others = [device for device in devices if device != core.device.public]
        said = core.groups.statement(row.id, core.device.public)
        content = HeadsContent(headers=headers, statements=() if said is None else (said,))
        self._outbox.put("heads", content, others, group=row.id, lifetime_s=STATEMENT_LIFETIME_S)

    # --- others'

    def receive(self, row: GroupRow, signed: Signed) -> Statement | None:
        """Keeps a member's word; answers it when it is news. Raises Malformed, Refused."""
        core = self._core
        author = DeviceKey(signed.signer)
        if core.groups.statement(row.id, author) == signed:
            return None  # it comes with every message
        statement = self._open(row, signed)
        if author == core.device.public or author not in core.branches.devices(row.id):
            raise Refused("wrong-statement", "a statement of a stranger")
        commit = core.branches.commits(row.id).get(statement.commit)
        known = None if commit is None else commit.epoch_id
        if known is not None and known != statement.epoch_id:
            raise Malformed("wrong-statement", "an epoch id that is not of its commit")
        old = core.branches.statements(row.id).get(author)
        if old is not None and old.number >= statement.number:
            if old.number == statement.number and old.commit != statement.commit:
                first = core.groups.statement(row.id, author)
                if first is not None and self._prove(row, author, first, signed):
                    return statement
            return None
        core.groups.put_statement(author, signed, statement)
        core.branches.note_statement(author, statement)
        return statement

    def proof(self, row: GroupRow, first: Signed, second: Signed) -> bool:
        """Two statements that contradict each other; whether that is news. Raises Malformed."""
        author = DeviceKey(first.signer)
        one, other = self._open(row, first), self._open(row, second)
        if (
            second.signer != first.signer
            or one.number != other.number
            or one.commit == other.commit
            or author not in self._core.branches.devices(row.id)
        ):
            raise Malformed("wrong-proof", "two statements that prove nothing")
        return self._prove(row, author, first, second)

    def _open(self, row: GroupRow, signed: Signed) -> Statement:
        statement = open_signed(
            SignedType.STATEMENT, signed, Statement.decode, lambda _: DeviceKey(signed.signer)
        )
        if statement.group != row.id:
            raise Malformed("wrong-statement", "a statement about another group")
        return statement

    def _prove(self, row: GroupRow, author: DeviceKey, first: Signed, second: Signed) -> bool:
        core = self._core
        if not core.branches.add_proof(row.id, author, first, second):
            return False
        owner = core.people.owner(author)
        name = author.hex()[:8] if owner is None else core.name_of(owner)
        core.emit(
            "equivocation",
            group=row.id.hex(),
            name=row.name,
            identity="" if owner is None else owner.hex(),
            member=name,
            detail=f"a device of {name} told two members different things about where it stands;"
            " its word no longer counts when members disagree",
        )
        return True
