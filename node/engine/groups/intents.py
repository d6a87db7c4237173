"""Intents: signed wishes to change a group, which any member may carry if their author may do it.

Every change is one. A commit names those it carries; one that is lost with a branch becomes
pending again, and is carried by the next commit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256

import mls_rs

from identity.signing import open_signed, sign
from node.engine import branch_tree
from node.engine.core import Core
from node.engine.groups import invitees
from node.engine.groups.rules import Change, authorise, is_fresh, with_admins
from node.engine.outbox import Outbox
from node.store.groups import GroupRow, MemberRow
from node.store.intents import Wish
from schemas.errors import Fault, Malformed, Refused
from schemas.group_records import CommitHeader, Intent, IntentKind, MemberRef
from schemas.ids import DeviceKey, IdentityKey, IntentId
from schemas.messages import GroupInfo
from schemas.parcels import CommitContent, IntentContent
from schemas.records import Signed, SignedType

OPEN_WISHES = 8  # of one device in a group; each is read again at every look
KEY_PACKAGE_LIFETIME_S = 90 * 86_400
WELCOME_S = 30.0  # in which the Welcome of a commit that takes us in follows it


@dataclass(frozen=True, slots=True)
class Plan:
    """What one commit would do for some wishes."""

    wishes: tuple[Wish, ...]
    key_packages: tuple[bytes, ...]
    added: tuple[MemberRef, ...]
    removed: tuple[MemberRow, ...]
    info_after: GroupInfo

    @property
    def change(self) -> tuple[tuple[MemberRef, ...], tuple[MemberRef, ...]]:
        """(added, removed)."""
        return self.added, tuple(MemberRef(m.device, m.identity) for m in self.removed)


class Intents:
    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox

    # --- ours

    def make(
        self,
        row: GroupRow,
        kind: IntentKind,
        *,
        subject: IdentityKey | None = None,
        members: Sequence[MemberRef] = (),
        key_packages: Sequence[bytes] = (),
        epoch: int | None = None,
    ) -> Wish:
        """Signed by this device; not stored yet. `epoch`: of another branch, for which it is."""
        core = self._core
        intent = Intent(
            IntentId(core.random(IntentId.LENGTH)),
            row.id,
            core.device.public,
            kind,
            subject,
            tuple(members),
            row.epoch if epoch is None else epoch,
            _digest(key_packages),
        )
        signed = sign(SignedType.INTENT, core.device, intent.encode())
        return Wish(intent, signed, tuple(key_packages), core.now)

    def renewed(self, row: GroupRow, wish: Wish) -> Wish:
        """A wish of ours, signed anew where we are now."""
        old = wish.intent
        again = self.make(
            row,
            old.kind,
            subject=old.subject,
            members=old.members,
            key_packages=wish.key_packages,
        )
        self._core.intents.set_done(row.id, [old.id])
        self._core.intents.add(again, self._core.now)
        return again

    def sign_anew(self, row: GroupRow) -> None:
        """Wishes of ours that wait since an epoch that is far from this branch's."""
        core = self._core
        for wish in core.intents.open(row.id):
            intent = wish.intent
            if (
                intent.author == core.device.public
                and intent.kind is not IntentKind.READMIT  # which is signed for another branch
                and not is_fresh(intent, row.epoch + 1)
            ):
                members = [member.device for member in core.groups.members(row.id)]
                self.tell(row, self.renewed(row, wish), members)

    def wish(self, row: GroupRow, wish: Wish, to: Collection[DeviceKey]) -> None:
        """Keeps it as pending, and tells these members."""
        self._core.intents.add(wish, self._core.now)
        self.tell(row, wish, to)

    def tell(self, row: GroupRow, wish: Wish, to: Collection[DeviceKey]) -> None:
        others = sorted(set(to) - {self._core.device.public})
        content = IntentContent(wish.signed, wish.key_packages)
        self._outbox.put("intent", content, others, group=row.id)

    def ask_readmission(self, row: GroupRow, to: Collection[DeviceKey], epoch: int) -> None:
        """For a new leaf in place of ours in a branch that is at `epoch`: once, unless that came to
        nothing. Catch-up spreads it."""
        core = self._core
        # Named by a commit that we did not enter since: its Welcome may never come.
        spent = {
            intent
            for commit in core.branches.commits(row.id).values()
            if commit.header is not None and commit.arrival < core.now - WELCOME_S
            for intent in commit.header.intents
        }
        for wish in self._own_readmissions(row):
            if is_fresh(wish.intent, epoch + 1) and wish.intent.id not in spent:
                return
            core.intents.set_done(row.id, [wish.intent.id])
        package = core.mls.key_package(
            row.suite, now=int(core.now), lifetime_s=KEY_PACKAGE_LIFETIME_S
        )
        core.write_log()
        core.key_packages.describe(
            package.reference,
            row.suite,
            package.message,
            last_resort=False,
            request=b"readmit" + row.id + package.reference,
        )
        wish = self.make(row, IntentKind.READMIT, key_packages=(package.message,), epoch=epoch)
        self.wish(row, wish, to)

    def withdraw_readmission(self, row: GroupRow) -> None:
        """It is not needed any more; who has it may carry it all the same."""
        done = [wish.intent.id for wish in self._own_readmissions(row)]
        self._core.intents.set_done(row.id, done)

    def _own_readmissions(self, row: GroupRow) -> list[Wish]:
        return [
            wish
            for wish in self._core.intents.open(row.id)
            if wish.intent.kind is IntentKind.READMIT
            and wish.intent.author == self._core.device.public
        ]

    # --- others'

    def receive(self, row: GroupRow, content: IntentContent) -> bool:
        """Whether it is news. Raises Malformed, Refused."""
        core = self._core
        intent = open_signed(SignedType.INTENT, content.intent, Intent.decode, lambda i: i.author)
        members = {member.device for member in core.groups.members(row.id)}
        if intent.group != row.id or intent.author not in members:
            raise Malformed("not-a-member", "a wish of a stranger")
        known = core.intents.get(row.id, intent.id)
        if known is not None and not self._on_path(row, intent.id):
            core.intents.set_done(row.id, [intent.id], done=False)  # named by a commit elsewhere
        if known is not None and (known.key_packages or not content.key_packages):
            return False
        if known is None and core.intents.open_of(row.id, intent.author) >= OPEN_WISHES:
            raise Refused("too-many-wishes", "enough wishes of one device")
        if content.key_packages and _digest(content.key_packages) != intent.packages:
            raise Malformed("wrong-key-package", "KeyPackages that the wish does not name")
        core.intents.add(Wish(intent, content.intent, content.key_packages), core.now)
        return known is None

    def _on_path(self, row: GroupRow, intent: IntentId) -> bool:
        """A commit on the way to where we stand names it."""
        commits = self._core.branches.commits(row.id)
        headers = (commits[one].header for one in branch_tree.path(commits, row.head))
        return any(header is not None and intent in header.intents for header in headers)

    def of_commit(
        self, row: GroupRow, signed: Sequence[Signed], named: Collection[IntentId]
    ) -> list[Intent]:
        """The intents beside a commit, which its header names one by one. Raises Malformed."""
        found = [
            open_signed(SignedType.INTENT, each, Intent.decode, lambda i: i.author)
            for each in signed
        ]
        ids = [intent.id for intent in found]
        if sorted(ids) != sorted(named) or any(intent.group != row.id for intent in found):
            raise Malformed("wrong-header", "intents that are not those of the commit")
        return found

    def keep(self, row: GroupRow, header: CommitHeader, content: CommitContent) -> None:
        """Those of a commit: whoever loses it with its branch may want them again.

        Raises Malformed.
        """
        carried = self.of_commit(row, content.intents, header.intents)
        for intent, signed in zip(carried, content.intents, strict=True):
            self._core.intents.add(Wish(intent, signed), self._core.now, done=True)

    # --- what they come to

    def satisfied(self, row: GroupRow, intent: Intent, info: GroupInfo) -> bool:
        """Its effect is there, whoever brought it about."""
        members = self._core.groups.members(row.id)
        devices = {member.device for member in members}
        match intent.kind:
            case IntentKind.LEAVE:
                return intent.author not in devices
            case IntentKind.REMOVE:
                return all(member.identity != intent.subject for member in members)
            case IntentKind.ADD:
                return all(member.device in devices for member in intent.members)
            case IntentKind.PROMOTE:
                return intent.subject in info.admins
            case IntentKind.READMIT | IntentKind.UPDATE:
                return False  # only a commit that names it

    def plan(self, row: GroupRow, wishes: Sequence[Wish], info: GroupInfo) -> Plan:
        """What this device can do about them in one commit; the rest waits for others."""
        taken = Plan((), (), (), (), info)
        for wish in wishes:
            plan = self._with(row, taken, wish) if is_fresh(wish.intent, row.epoch + 1) else None
            if plan is not None and self._allowed(row, plan, info):
                taken = plan
        return taken

    def _allowed(self, row: GroupRow, plan: Plan, info: GroupInfo) -> bool:
        core = self._core
        members = {m.device: m.identity for m in core.groups.members(row.id)}
        me = MemberRef(core.device.public, core.identity.public)
        try:
            authorise(
                info,
                members,
                Change(me, *plan.change, plan.info_after),
                [wish.intent for wish in plan.wishes],
            )
        except Refused:
            return False
        return True

    def _with(self, row: GroupRow, plan: Plan, wish: Wish) -> Plan | None:
        core = self._core
        intent, me = wish.intent, core.device.public
        members = core.groups.members(row.id)
        owners = {member.device: member.identity for member in members}
        packages: tuple[bytes, ...] = ()
        added: list[MemberRef] = []
        removed: list[MemberRow] = []
        info = plan.info_after
        match intent.kind:
            case IntentKind.LEAVE:
                removed = [member for member in members if member.device == intent.author]
            case IntentKind.REMOVE:
                removed = [member for member in members if member.identity == intent.subject]
            case IntentKind.PROMOTE if intent.subject is not None:
                info = with_admins(info, [intent.subject])
            case IntentKind.ADD:
                missing = [member for member in intent.members if member.device not in owners]
                packages, added = self._packages(row, wish, missing)
                removed = invitees.replaced(core, row, added)
            case IntentKind.READMIT if intent.author in owners:
                again = MemberRef(intent.author, owners[intent.author])
                packages, added = self._packages(row, wish, [again])
                removed = [member for member in members if member.device == intent.author]
        gone = {member.device for member in plan.removed}
        coming = {member.device for member in plan.added}
        if me in {member.device for member in removed} or coming & {m.device for m in added}:
            return None
        if not added and not removed and info == plan.info_after:
            return None
        return Plan(
            (*plan.wishes, wish),
            plan.key_packages + packages,
            (*plan.added, *added),
            (*plan.removed, *(member for member in removed if member.device not in gone)),
            info,
        )

    def _packages(
        self, row: GroupRow, wish: Wish, wanted: Sequence[MemberRef]
    ) -> tuple[tuple[bytes, ...], list[MemberRef]]:
        """The KeyPackages beside a wish that this group can use now, and whom they add."""
        core = self._core
        packages, added = [], []
        for package in wish.key_packages:
            try:
                info = core.library.verify_key_package(package)
                owner = core.credential_owner(info.signature_key, info.credential)
                member = MemberRef(DeviceKey(info.signature_key), owner)
            except (Fault, mls_rs.MlsError):
                continue
            current = info.suite == row.suite and info.not_before <= core.now < info.not_after
            if core.people.hybrid_key(member.device) is None:
                continue  # no Welcome of ours could be sealed to it: another member's turn comes
            if current and member in wanted and member not in added:
                packages.append(package)
                added.append(member)
        return tuple(packages), added


def _digest(key_packages: Sequence[bytes]) -> bytes:
    """Of those beside a wish, in order; empty without any."""
    if not key_packages:
        return b""
    return sha256(b"".join(sha256(package).digest() for package in key_packages)).digest()
