"""Every parcel that comes in: opened once, acted on, and marked as seen in one transaction."""

from __future__ import annotations

import contextlib
import hashlib
import math

import mls_rs

from node.engine import delivery_commands as d
from node.engine import requests, values
from node.engine.blocking import Blocking, Unwanted
from node.engine.catch_up import CatchUp
from node.engine.contacts import Contacts
from node.engine.conversation import Conversation
from node.engine.core import Core, GroupDamaged
from node.engine.early import Early, NoRoom
from node.engine.groups.commits import Commits
from node.engine.groups.convergence import Convergence
from node.engine.groups.intents import Intents
from node.engine.groups.welcome import Welcomes
from node.engine.receipts import Receipts
from node.engine.values import OVER, GroupStatus
from node.store.groups import GroupRow
from schemas.errors import Fault, Malformed, Refused
from schemas.group_records import CommitHeader
from schemas.ids import DeviceKey, EpochId, GroupId
from schemas.parcels import (
    NO_GROUP,
    BundlesContent,
    CommitContent,
    Content,
    HeadsContent,
    IntentContent,
    MessageContent,
    ParcelBody,
    SummaryContent,
    TreeChunkContent,
    WelcomeContent,
    unpad,
)

BUFFER_FULL_S = 60.0
SEEN_S = 31 * 86_400.0  # longer than a message is tried

# More messages of its author are missing than keys are kept for.
_TOO_FAR = frozenset({"generation-too-far", "too-many-skipped"})

# A newer version of this program may be able to read these: a relay's copy must stay.
_KEEP_FOR_LATER = frozenset({"unknown-kind", "unknown-envelope-version", "unknown-group-version"})


class Arrivals:
    def __init__(
        self,
        core: Core,
        conversation: Conversation,
        receipts: Receipts,
        catch_up: CatchUp,
        commits: Commits,
        welcomes: Welcomes,
        contacts: Contacts,
        blocking: Blocking,
        intents: Intents,
        convergence: Convergence,
    ) -> None:
        self._core = core
        self._conversation = conversation
        self._receipts = receipts
        self._catch_up = catch_up
        self._commits = commits
        self._welcomes = welcomes
        self._contacts = contacts
        self._blocking = blocking
        self._intents = intents
        self._convergence = convergence
        convergence.entered = self.drain
        self._snapshot: tuple[tuple[GroupId, EpochId], mls_rs.Group] | None = None
        self._draining: set[GroupId] | None = None  # groups whose early arrivals are due a look

    def arrived(self, command: d.Arrived) -> values.Verdict:
        """A parcel counts as seen by what is in it, never by its id: a relay knows the id and our
        public key, and could shut out the good parcel with one of its own making."""
        core, parcel = self._core, command.parcel
        read = False
        if parcel.recipient != core.device.public:
            return values.Rejected("not-for-me", garbage=True)
        try:
            opened = self._open(parcel.sealed)
            digest = hashlib.sha256(opened).digest()
            seen = core.messages.seen(digest)
            if isinstance(seen, tuple) and seen[1] is not None:
                self._receipts.owe(seen[0], seen[1])  # its author missed our receipt
            if seen:
                return values.Accepted(known=True)
            body = ParcelBody.decode(opened)
            if body.parcel != parcel.id:
                raise Malformed("wrong-parcel-id", "a parcel under another parcel's id")
            read = True
            return self._settle(digest, body, command.path, command.via)
        except Fault as fault:
            forget = fault.code not in _KEEP_FOR_LATER
            return values.Rejected(fault.code, forget, garbage=forget and not read)

    def _settle(
        self, digest: bytes, body: ParcelBody, path: str, via: DeviceKey | None
    ) -> values.Verdict:
        """Acts on a parcel and marks it as seen; an early one waits, and is not seen yet.

        Raises Fault when it is refused.
        """
        core = self._core
        author, early, known = None, False, False
        row = None
        try:
            with core.undoable():
                try:
                    author = self._act(body, path, via)
                except Early as found:
                    # What it told on the way counts.
                    row = core.groups.get(body.group)
                    early, known = True, found.known or row is not None
                except (NoRoom, GroupDamaged):
                    return values.Deferred(BUFFER_FULL_S)  # its author keeps it
                except Unwanted:
                    return values.Accepted()  # not seen: it may be wanted when it comes again
        except mls_rs.MlsError as error:
            raise Malformed(f"mls-{error.code}", "MLS refuses it") from error
        if early:
            kept = core.messages.park(
                body.group,
                known,
                path,
                digest,
                body.encode(),
                core.now,
                via=via,
                room=requests.room_for_early(core, row),
            )
            return values.Accepted() if kept else values.Deferred(BUFFER_FULL_S)
        if via is not None:
            self._catch_up.handed_over(body, author, via)
        # Not until the parcel expires: that is outside the seal, and anybody's to say.
        until = core.now + SEEN_S
        core.messages.mark_seen(digest, until, None if author is None else body.group, author)
        return values.Accepted()

    def _open(self, sealed: bytes) -> bytes:
        """With the current hybrid key, or the one before. Raises Malformed."""
        core = self._core
        failure: Malformed | None = None
        for keys in core.hybrid_keys:
            try:
                return unpad(core.library.open_envelope(keys, sealed))
            except Malformed as error:
                if error.code != "cannot-open":
                    raise
                failure = error
        raise failure or Malformed("cannot-open", "no hybrid key")

    def _act(self, body: ParcelBody, path: str, via: DeviceKey | None) -> DeviceKey | None:
        """Does what a parcel says; answers the author when it was a message.

        Raises Early, MlsError, or Fault when it is refused.
        """
        row = self._core.groups.get(body.group)
        over = body.group == NO_GROUP or (row is not None and row.status in OVER)
        if self._blocking.drops(row, body.content):
            raise Unwanted
        match body.content:
            case BundlesContent():
                if self._contacts.receive_bundles(body.content) and not over:
                    raise Early  # of people who are not in the group yet, as far as we know
            case WelcomeContent():
                if self._welcomes.receive(body.content):
                    self._convergence.look_at(body.group)
                else:
                    self.drain(body.group)
            case TreeChunkContent(data):
                if self._welcomes.receive_chunk(data):
                    self.drain(body.group)
            case SummaryContent(summary):
                self._catch_up.receive(summary)
            case MessageContent(mls):
                return self._message(self._known(row, also_removed=True), body, mls, path, via)
            case CommitContent():
                self._commit(self._known(row, also_removed=True), body, body.content)
            case HeadsContent():
                self._commits.heads(self._known(row, also_removed=True), body.content)
            case IntentContent():
                self._intents.receive(self._known(row), body.content)
        return None

    def _known(self, row: GroupRow | None, *, also_removed: bool = False) -> GroupRow:
        """`also_removed`: what was said while we were a member, or may tell that we are again."""
        if row is None:
            raise Early
        if row.status in OVER and not (also_removed and row.status == GroupStatus.REMOVED):
            raise Malformed("not-a-member", "for a group that we are no longer in")
        return row

    # --- kinds

    def _message(
        self, row: GroupRow, body: ParcelBody, mls: bytes, path: str, via: DeviceKey | None
    ) -> DeviceKey | None:
        requests.check_room(self._core, row, len(mls))
        if body.statement is not None:
            with contextlib.suppress(Refused):  # of somebody whom only another branch knows
                self._commits.statement(row, body.statement)
        if body.epoch_id != row.epoch_id and not self._core.groups.entered(row.id, body.epoch_id):
            header = self._core.library.inspect(mls)
            if header.group_id == row.id and (header.epoch or 0) <= row.epoch:
                self._commits.other_branch(row, body.epoch_id, body.statement)
            raise Early
        try:
            opened = self._decrypt(row, body, mls)
        except mls_rs.KeyUnavailable as error:
            if error.code in _TOO_FAR:
                self._core.count(error.code)
                raise NoRoom from error  # what lies between may come, and this again
            return None  # a duplicate: its key is used up
        author = self._conversation.received(row, opened, mls, body.epoch_id, path, via)
        self._receipts.owe(row.id, author)
        return author

    def _decrypt(self, row: GroupRow, body: ParcelBody, mls: bytes) -> mls_rs.Message:
        """With the keys of its epoch: those of past ones are in the group and in snapshots."""
        core = self._core
        past = body.epoch_id != row.epoch_id
        out = row.status == GroupStatus.REMOVED
        opened = None
        # With forks, our epoch of that number may be another one.
        if out or (past and core.branches.forked(row.id)):
            opened = self._by_snapshot(row, body.epoch_id, mls)
        if out and opened is None:
            raise Early  # readable if the branch that removed us loses
        if opened is None:
            group = core.mls_group(row.id)
            dropped = group.dropped_keys
            try:
                opened = group.process(mls)
                if group.dropped_keys > dropped:
                    core.count("skipped-keys-dropped")
                core.write_mls_later(row)
            except (mls_rs.EpochTooOld, mls_rs.NoSuchMember):
                # Its secrets are gone, or its author left since: the snapshot still reads it.
                opened = self._by_snapshot(row, body.epoch_id, mls)
                if opened is None:
                    raise
        if not isinstance(opened, core.library.message):
            raise Malformed("wrong-content", "not an application message")
        return opened

    def _by_snapshot(
        self, row: GroupRow, epoch_id: EpochId, mls: bytes
    ) -> mls_rs.Message | mls_rs.Commit | None:
        """None without one. The snapshot stays as it is: messages are told apart by their ids."""
        state = self._core.groups.snapshot_state(row.id, epoch_id)
        if state is None:
            return None
        key = (row.id, epoch_id)
        if self._snapshot is None or self._snapshot[0] != key:
            self._snapshot = (key, self._core.mls.load_group(row.id, *state))
        return self._snapshot[1].clone().process(mls)

    def _commit(self, row: GroupRow, body: ParcelBody, content: CommitContent) -> None:
        before = row.head
        self._commits.receive(row, content)
        if row.status in OVER:
            return
        if body.statement is not None:
            with contextlib.suppress(Refused):
                self._commits.statement(row, body.statement)
        if row.head != before:
            self.drain(row.id)

    def drain(self, group: GroupId) -> None:
        """Something came that early arrivals may have waited for.

        A chain of commits that came backwards is one pass, not a call within a call.
        """
        if self._draining is not None:
            self._draining.add(group)
            return
        self._draining = {group}
        try:
            while self._draining:
                self._look_at_parked(self._draining.pop())
        finally:
            self._draining = None

    def _look_at_parked(self, group: GroupId) -> None:
        parked = self._core.messages.take_parked(group)
        row = self._core.groups.get(group)
        if row is not None and row.status in OVER and row.status != GroupStatus.REMOVED:
            return
        found = [(ParcelBody.decode(body), digest, path, via) for digest, body, path, via in parked]
        for body, digest, path, via in sorted(found, key=lambda entry: _epoch(entry[0].content)):
            try:
                self._settle(digest, body, path, via)
            except Fault as fault:  # its sender is told when it comes again
                self._core.count(f"arrival-{fault.code}")


def _epoch(content: Content) -> float:
    """Where it belongs among early arrivals: commits in their order, then what follows them."""
    match content:
        case WelcomeContent():
            return -1.0
        case CommitContent(header):
            with contextlib.suppress(Malformed):
                return float(CommitHeader.decode(header.payload).epoch)
    return math.inf
