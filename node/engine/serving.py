"""What one summary is answered with: commits and votes first, then bundles, then messages.

Only current members get bundles, wishes and messages. Who was one gets the headers, and of the
commits those that it was a member before: it learns that it was removed, and how.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from node.engine import branch_tree
from node.engine.core import Core
from node.engine.groups.fork_choice import rank
from node.engine.introductions import introductions
from node.engine.outbox import CARRIED, CATCH_UP, Outbox
from node.store.branches import CommitRow
from node.store.catch_up import Kept
from node.store.groups import GroupRow
from node.store.intents import Wish
from schemas import limits
from schemas.group_records import AuthorMark, MemberRef, Summary
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId
from schemas.parcels import (
    NO_EPOCH,
    CommitContent,
    Content,
    HeadsContent,
    IntentContent,
    MessageContent,
)
from schemas.records import Signed

COMMITS = 256  # answered to one summary: four times the epochs that anybody keeps snapshots of
MESSAGES = 1000  # what the reader's buffer of early messages holds
BYTES = 4 * limits.MIB  # a few seconds of a slow line; the rest is asked for when this has come
BYTES_BY_RELAY = 256 * limits.KIB  # without a link: enough to heal, too little to fill a mailbox
LIFETIME_S = 86_400.0  # the next meeting brings what is still missing
AGAIN_S = 60.0  # until one thing is handed to one device again: it may be on its way
GIVEN = 65_536  # things remembered as handed over, of all devices
HEADS_BYTES = 256 * limits.KIB  # of one parcel
INTRODUCERS = 5  # of whom is let in, beside whoever did it: all of them are hardly gone at once
LATELY_S = 86_400.0  # in which whoever let a device in may not have introduced it everywhere


@dataclass(slots=True)
class _Room:
    """What may still be handed over in answer to one summary."""

    bytes: int
    messages: int

    def take(self, size: int) -> bool:
        """Whether something of that size still fits."""
        fits = size <= self.bytes
        self.bytes = self.bytes - size if fits else 0  # nothing smaller overtakes it
        return fits


class Serving:
    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._outbox = outbox
        # (group, device) -> what was handed over lately, and when; oldest first
        self._given: dict[tuple[GroupId, DeviceKey], dict[bytes, float]] = {}
        self._count = 0
        # When a device was last known to have all the commits that we had
        self._agreed: dict[tuple[GroupId, DeviceKey], float] = {}
        # By which commit a device was let in that was introduced to everybody
        self._introduced: dict[tuple[GroupId, DeviceKey], CommitHash] = {}

    def forget(self, device: DeviceKey | None = None) -> None:
        """What was handed to this device, or to anybody, may have been lost on the way."""
        for key in [key for key in self._given if device in (None, key[1])]:
            self._count -= len(self._given.pop(key))
        if device is None:
            self._agreed.clear()

    def digest(self, row: GroupRow, device: DeviceKey) -> bytes:
        """Of what we know, in the range that `device` can know as well."""
        core = self._core
        return branch_tree.digest(
            self._in_range(row, device),
            core.branches.statements(row.id),
            core.branches.equivocators(row.id),
            [wish.intent.id for wish in core.intents.open(row.id)],
            [member.device for member in core.groups.members(row.id)],
        )

    def _in_range(self, row: GroupRow, device: DeviceKey) -> dict[CommitHash, CommitRow]:
        commits = self._core.branches.commits(row.id)
        return branch_tree.in_range(commits, row.epoch, (self._core.device.public, device))

    def serve(self, row: GroupRow, device: DeviceKey, summary: Summary) -> None:
        """Puts into the outbox what the summary shows that this device lacks, as far as it fits."""
        core = self._core
        member = any(member.device == device for member in core.groups.members(row.id))
        blocked = core.people.is_blocked_device(device)
        room = _Room(BYTES if device in core.linked else BYTES_BY_RELAY, MESSAGES)
        ours, half = self.digest(row, device), branch_tree.HALF
        same_commits = summary.tree[:half] == ours[:half] and member
        same_votes = summary.tree[half:] == ours[half:] and member
        if same_commits:
            self._note_agreed(row, device)
        else:
            self._commits(row, device, summary, room, member=member)
        if not same_votes:
            self._votes(row, device, room)
            if member:
                self._wishes(row, device, room)
        if member and not blocked:
            self._bundles(row, device, summary, room)
            self._messages(row, device, summary, room)

    # --- commits and votes

    def _note_agreed(self, row: GroupRow, device: DeviceKey) -> None:
        known = self._in_range(row, device).values()
        if all(commit.here or commit.epoch_id is not None for commit in known):
            self._agreed[row.id, device] = self._core.now
            if len(self._agreed) > GIVEN:
                del self._agreed[next(iter(self._agreed))]

    def _commits(
        self, row: GroupRow, device: DeviceKey, summary: Summary, room: _Room, *, member: bool
    ) -> None:
        core = self._core
        known = core.branches.commits(row.id)
        stand = self._stand(row, device, summary)
        has = branch_tree.path(known, stand)
        agreed = self._agreed.get((row.id, device), 0.0)
        first = branch_tree.added_at(known, device)
        if member and stand in known:  # who lags further behind needs all from there on
            first = max(first, min(row.epoch, known[stand].epoch) - limits.SNAPSHOT_EPOCHS)
        ours = branch_tree.path(known, row.head)
        if stand in known and stand not in ours:  # the way from its branch to ours
            let_in = branch_tree.entry(known, stand, device)
            first = 1 + max((known[commit].epoch for commit in has & ours), default=0)
            if let_in is not None:  # of its own branch, what was before it
                has = {commit for commit in has if known[commit].epoch >= let_in.epoch}
        before = branch_tree.member_before(known, device, now=member)
        missing = sorted(
            (
                commit
                for commit in known.values()
                if commit.header is not None
                and commit.epoch >= first
                and commit.hash not in has
                and commit.arrival >= agreed
                and not self._was_given(row, device, commit.hash)
            ),
            key=lambda commit: (commit.epoch, commit.arrival, commit.hash),
        )[:COMMITS]
        whole = [
            commit
            for commit in missing
            if before[commit.hash] and commit.here and self._wishes_are_here(row, commit)
        ]
        heard_of = {commit.hash for commit in missing} - {commit.hash for commit in whole}
        signed = [core.catch_up.header(row.id, c.hash) for c in missing if c.hash in heard_of]
        self._heads(row, device, room, headers=[one for one in signed if one is not None])
        for commit in whole:
            content = self._commit(row, commit)
            if content is not None and self._may_give(row, device, commit.hash, room, commit.size):
                self._put(row, device, content, commit.hash)

    def _stand(self, row: GroupRow, device: DeviceKey, summary: Summary) -> CommitHash:
        """Where it stands, or stood when we last heard of it."""
        if summary.head in self._core.branches.commits(row.id):
            return summary.head
        statement = self._core.branches.statements(row.id).get(device)
        return summary.head if statement is None else statement.commit

    def _carried(self, row: GroupRow, commit: CommitRow) -> list[Wish | None]:
        intents = commit.header.intents if commit.header is not None else ()
        return [self._core.intents.get(row.id, intent) for intent in intents]

    def _wishes_are_here(self, row: GroupRow, commit: CommitRow) -> bool:
        """Nobody takes a commit without the wishes that it carries."""
        return None not in self._carried(row, commit)

    def _commit(self, row: GroupRow, commit: CommitRow) -> CommitContent | None:
        found = self._core.branches.content(row.id, commit.hash)
        if found is None:
            return None
        wishes = self._carried(row, commit)
        return CommitContent(*found, tuple(wish.signed for wish in wishes if wish is not None))

    def _votes(self, row: GroupRow, device: DeviceKey, room: _Room) -> None:
        store = self._core.catch_up
        self._heads(
            row,
            device,
            room,
            statements=[signed for author, signed in store.statements(row.id) if author != device],
            proofs=[(one, two) for _, one, two in store.proofs(row.id)],
        )

    def _heads(
        self,
        row: GroupRow,
        device: DeviceKey,
        room: _Room,
        *,
        headers: Iterable[Signed] = (),
        statements: Iterable[Signed] = (),
        proofs: Iterable[tuple[Signed, Signed]] = (),
    ) -> None:
        """In as few parcels as hold them."""
        parts: list[tuple[str, tuple[Signed, ...]]] = [
            *(("headers", (one,)) for one in headers),
            *(("statements", (one,)) for one in statements),
            *(("proofs", proof) for proof in proofs),
        ]
        chunk: dict[str, list[tuple[Signed, ...]]] = {}
        size, keys = 0, []
        for kind, records in parts:
            key = b"".join(record.signature for record in records)
            length = sum(len(record.payload) + len(key) + 64 for record in records)
            if not self._may_give(row, device, key, room, length):
                continue
            chunk.setdefault(kind, []).append(records)
            size += length
            keys.append(key)
            if size >= HEADS_BYTES or len(keys) >= limits.HEADS:
                self._put(row, device, _heads_content(chunk), *keys)
                chunk, size, keys = {}, 0, []
        if keys:
            self._put(row, device, _heads_content(chunk), *keys)

    def _wishes(self, row: GroupRow, device: DeviceKey, room: _Room) -> None:
        for wish in self._core.intents.open(row.id):
            size = len(wish.signed.payload) + sum(map(len, wish.key_packages))
            if self._may_give(row, device, wish.intent.id, room, size):
                content = IntentContent(wish.signed, wish.key_packages)
                self._put(row, device, content, wish.intent.id)

    # --- bundles

    def _bundles(self, row: GroupRow, device: DeviceKey, summary: Summary, room: _Room) -> None:
        """Of whom it may never have met: those added since where it stood; everybody, where it
        was let in lately by another, who may be gone before they introduced it."""
        core = self._core
        known = core.branches.commits(row.id)
        on_path = branch_tree.path(known, self._stand(row, device, summary))
        members = {member.device: member for member in core.groups.members(row.id)}
        entry = branch_tree.entry(known, row.head, device)
        about: set[DeviceKey] = set()
        if entry is not None and self._introduces(row, device, entry):
            about.update(members)
        if on_path:
            for commit in branch_tree.path(known, row.head) - on_path:
                header = known[commit].header
                about.update(ref.device for ref in (header.added if header is not None else ()))
        about &= members.keys() - {device}
        refs = [MemberRef(key, members[key].identity) for key in sorted(about)]
        for content in introductions(core, refs, [device]):
            records = (*content.cores, *content.endpoints)
            size = sum(len(record.payload) for record in records)
            key = b"".join(record.signature for record in records)
            if self._may_give(row, device, key, room, size):
                self._put(row, device, content, key)

    def _introduces(self, row: GroupRow, device: DeviceKey, entry: CommitRow) -> bool:
        """Once for each time that a device is let in, by the few whose turn it is: everybody to
        everybody would grow with the square of the group."""
        me = self._core.device.public
        if entry.header is None or entry.header.author == me:
            return False
        others = (member.device for member in self._core.groups.members(row.id))
        turns = sorted(others, key=lambda one: rank(row.id, entry.hash, one))
        if me not in [one for one in turns if one != device][:INTRODUCERS]:
            return False
        known = self._introduced.get((row.id, device))
        if known == entry.hash or entry.arrival < self._core.now - LATELY_S:
            return False
        self._introduced[row.id, device] = entry.hash
        if len(self._introduced) > GIVEN:
            del self._introduced[next(iter(self._introduced))]
        return True

    # --- messages

    def _messages(self, row: GroupRow, device: DeviceKey, summary: Summary, room: _Room) -> None:
        core = self._core
        store = core.catch_up
        known = core.branches.commits(row.id)
        since = branch_tree.added_at(known, device)
        both = branch_tree.path(known, row.head) | branch_tree.path(known, summary.head)
        readable = {known[commit].epoch_id for commit in both if known[commit].epoch >= since}
        marks = {mark.device: mark for mark in summary.authors}
        for author in store.authors(row.id):
            if author in (device, core.device.public):
                continue  # of ours the outbox sees to, and tells the ledger
            for kept in self._lacking(row, author, marks.get(author), readable):
                key = author + kept.sequence.to_bytes(8, "big")
                if room.messages <= 0:
                    return
                if self._may_give(row, device, key, room, kept.size):
                    room.messages -= 1
                    content = MessageContent(store.ciphertext(row.id, kept))
                    self._put(row, device, content, key, epoch_id=kept.epoch_id)

    def _lacking(
        self,
        row: GroupRow,
        author: DeviceKey,
        mark: AuthorMark | None,
        readable: Collection[EpochId | None],
    ) -> Iterator[Kept]:
        """What an author wrote that a mark does not cover, in order. Before the mark's base lie
        messages of earlier epochs: back to the first epoch that the reader was in."""
        store = self._core.catch_up
        kept = partial(store.kept, row.id, author, limit=MESSAGES)
        base, contiguous, gaps = limits.COUNTER, limits.COUNTER, set[int]()
        if mark is not None:
            base, contiguous, gaps = mark.base, mark.contiguous, set(mark.gaps)
        yield from kept(store.first_of(row.id, author, base, readable), base - 1)
        for gap in sorted(gaps):
            yield from kept(gap, gap)
        for one in kept(contiguous + 1, limits.COUNTER):
            if one.epoch_id in readable:
                yield one

    # --- what was handed over

    def _may_give(
        self, row: GroupRow, device: DeviceKey, key: bytes, room: _Room, size: int
    ) -> bool:
        return not self._was_given(row, device, key) and room.take(size)

    def _was_given(self, row: GroupRow, device: DeviceKey, key: bytes) -> bool:
        given = self._given.get((row.id, device), {}).get(key)
        return given is not None and 0 <= self._core.now - given < AGAIN_S

    def _put(
        self,
        row: GroupRow,
        device: DeviceKey,
        content: Content,
        *keys: bytes,
        epoch_id: EpochId = NO_EPOCH,
    ) -> None:
        kind = CARRIED if isinstance(content, MessageContent) else CATCH_UP
        self._outbox.put(
            kind, content, [device], group=row.id, epoch_id=epoch_id, lifetime_s=LIFETIME_S
        )
        given = self._given.setdefault((row.id, device), {})
        self._count += len(keys) - len(given.keys() & set(keys))
        given.update(dict.fromkeys(keys, self._core.now))
        while self._count > GIVEN:
            self._count -= len(self._given.pop(next(iter(self._given))))


def _heads_content(parts: dict[str, list[tuple[Signed, ...]]]) -> HeadsContent:
    return HeadsContent(
        tuple(one for (one,) in parts.get("headers", ())),
        tuple(one for (one,) in parts.get("statements", ())),
        tuple((one, two) for one, two in parts.get("proofs", ())),
    )
