"""After a choice between branches: what the lost one held is brought to the one that won.

Intents that were lost become pending again, own messages that the branch cannot read are sealed
again under the same id; and the user is told. A Welcome to the lost branch stays on its way: the
branch may win yet, and whoever holds two chooses as everybody does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from node.engine.conversation import GROUP_SPLIT, Conversation
from node.engine.core import Core, group_info
from node.engine.groups.epochs import NO_LONGER_A_MEMBER
from node.engine.groups.fork_choice import Rule, Tree
from node.engine.groups.intents import Intents
from node.engine.outbox import Outbox
from node.engine.values import LIVE, State
from node.store.groups import GroupRow
from node.store.intents import Wish
from schemas.group_records import Intent, IntentKind
from schemas.ids import CommitHash, DeviceKey, GroupId, IdentityKey, MessageId

HOLD_S = 30.0  # for a removal to be made again, by whoever's turn it is
_WAITING = {
    "readmission": "the others went on with a branch that this device cannot enter. It asked them"
    " to take it in again; until then it goes on with its own",
    "removed-by-branch": "the member who invited you was on a branch that lost. The invitation is"
    " made again by itself",
}


class Repair:
    def __init__(
        self, core: Core, outbox: Outbox, conversation: Conversation, intents: Intents, rule: Rule
    ) -> None:
        self._core = core
        self._outbox = outbox
        self._conversation = conversation
        self._intents = intents
        self._rule = rule
        self._holding: dict[GroupId, float] = {}

    # --- messages

    def seal_for_renewed(self) -> None:
        """Everything of ours that members with a new leaf do not have: they read nothing older."""
        core = self._core
        for group, device in sorted(core.renewed):
            row = core.groups.get(group)
            if row is not None and row.status in LIVE:
                self._seal_open(row, lambda sequence, device: False, only=device)
        core.renewed.clear()
        for group, device, message, epoch_id in sorted(core.unreadable):
            row = core.groups.get(group)
            if row is not None and row.status in LIVE and epoch_id != row.epoch_id:
                self._conversation.seal_again(row, message, [device])
        core.unreadable.clear()

    def _seal_open(
        self,
        row: GroupRow,
        readable: Callable[[int, DeviceKey], bool],
        only: DeviceKey | None = None,
    ) -> int:
        """Seals again what waits for members who cannot read it as it is sealed.

        `readable(sequence, device)`. Answers how many messages.
        """
        core = self._core
        if not self._rule.reseal:
            return 0
        me = core.device.public
        members = {member.device for member in core.groups.members(row.id)} - {me}
        again: dict[MessageId, list[DeviceKey]] = {}
        for entry in core.outbox.unsettled(row.id, only):
            gone = entry.state == State.REFUSED
            if entry.device not in members:
                if entry.state == State.QUEUED:
                    self._outbox.note(
                        entry.message, entry.device, State.REFUSED, reason=NO_LONGER_A_MEMBER
                    )
                continue
            if gone or entry.reason == GROUP_SPLIT:
                fresh = dataclasses.replace(entry, state=State.QUEUED.value, reason=None)
                core.outbox.write_ledger([fresh])
            elif readable(entry.sequence, entry.device):
                continue
            again.setdefault(entry.message, []).append(entry.device)
        for message, devices in again.items():
            self._conversation.seal_again(row, message, devices)
        return len(again)

    def _readable(self, row: GroupRow, tree: Tree) -> Callable[[int, DeviceKey], bool]:
        """Whether our message is sealed in an epoch of this branch that a member was in, and has
        the same leaf since."""
        core = self._core
        path = tree.path(row.head)
        place = {}
        joined: dict[DeviceKey, int] = {}
        for index, commit in enumerate(path):
            known = core.branches.commits(row.id).get(commit)
            if known is not None and known.epoch_id is not None:
                place[known.epoch_id] = index
            node = tree.node(commit)
            joined |= {member.device: index for member in (() if node is None else node.added)}
        sealed = core.messages.sealed_in(row.id, core.device.public)

        def readable(sequence: int, device: DeviceKey) -> bool:
            epoch_id = sealed.get(sequence)
            index = None if epoch_id is None else place.get(epoch_id)
            return index is not None and index >= joined.get(device, 0)

        return readable

    # --- after a choice

    def after_choice(
        self,
        row: GroupRow,
        tree: Tree,
        undone: Sequence[CommitHash],
        new: Sequence[CommitHash],
        forks: Sequence[CommitHash],
    ) -> float | None:
        """`undone` and `new` are what we left and what we entered, in order; `forks` are news.

        Answers when this is to be done again, if something was put off.
        """
        core = self._core
        lost = self._reopen(row, tree, undone, new)
        resent, look_again = 0, self._hold(row, begins=bool(undone))
        if look_again is None:
            resent = self._seal_open(row, self._readable(row, tree))
            core.renewed -= {entry for entry in core.renewed if entry[0] == row.id}
        if undone or forks:
            self._tell_of_healing(row, tree, undone, forks, lost, resent)
        return look_again

    def _hold(self, row: GroupRow, *, begins: bool) -> float | None:
        """While a removal that was lost waits to be made again, what was said after it is not
        sealed to who is back in for a moment. Answers when to look again; None: now it is."""
        core = self._core
        removals = (IntentKind.REMOVE, IntentKind.LEAVE)
        if not any(wish.intent.kind in removals for wish in core.intents.open(row.id)):
            self._holding.pop(row.id, None)
            return None
        if begins:
            self._holding[row.id] = core.now + HOLD_S
        until = self._holding.get(row.id, core.now)
        return min(until, core.now + 1.0) if core.now < until <= core.now + HOLD_S else None

    def _reopen(
        self, row: GroupRow, tree: Tree, undone: Iterable[CommitHash], new: Iterable[CommitHash]
    ) -> list[str]:
        """Wishes that the lost commits carried wait again; answers them in words."""
        core = self._core
        kept = set(self._carried(row, new))
        info = group_info(core.mls_group(row.id))
        members = [member.device for member in core.groups.members(row.id)]
        again = []
        for wish in self._wishes(row, undone):
            intent = wish.intent
            if intent.id in kept or self._intents.satisfied(row, intent, info):
                continue
            mine = intent.author == core.device.public
            if intent.kind is IntentKind.READMIT or (intent.kind is IntentKind.UPDATE and not mine):
                continue  # who needs it still asks anew
            if intent.kind is IntentKind.UPDATE:
                core.groups.set_key_update(row.id, row.lamport, core.clock.believed)
            else:
                core.intents.set_done(row.id, [intent.id], done=False)
                if mine:
                    self._intents.tell(row, wish, members)
            again.append(self._in_words(intent))
        return again

    def _carried(self, row: GroupRow, commits: Iterable[CommitHash]) -> list[bytes]:
        known = self._core.branches.commits(row.id)
        headers = [known[commit].header for commit in commits]
        return [intent for header in headers if header is not None for intent in header.intents]

    def _wishes(self, row: GroupRow, commits: Iterable[CommitHash]) -> Iterator[Wish]:
        known = self._core.branches.commits(row.id)
        for commit in commits:
            header = known[commit].header
            for intent in () if header is None else header.intents:
                wish = self._core.intents.get(row.id, intent)
                if wish is not None:
                    yield wish

    # --- where we were

    def last_held(self, row: GroupRow) -> tuple[CommitHash, dict[DeviceKey, IdentityKey]] | None:
        """The last epoch that we have a snapshot of, and who was in it."""
        core = self._core
        commits = core.branches.commits(row.id)
        held = [
            (commits[head].entered or 0.0, snapshot.epoch, head, snapshot)
            for head, snapshot in core.branches.snapshots(row.id).items()
            if head in commits
        ]
        if not held:
            return None
        snapshot = max(held, key=lambda entry: entry[:3])[3]
        state = core.groups.snapshot_state(row.id, snapshot.epoch_id)
        if state is None:
            return None
        roster = core.mls.load_group(row.id, *state).roster()
        return snapshot.head, {
            DeviceKey(member.signature_key): IdentityKey(member.credential[:32])
            for member in roster
        }

    # --- news

    def tell_of_split(self, row: GroupRow, tree: Tree, fork: CommitHash) -> None:
        names = self._authors(tree, tree.children(fork))
        self._core.emit(
            "group-split",
            group=row.id.hex(),
            name=row.name,
            by=_listed(names),
            detail=f"{_listed(names)} changed it at the same time; this is settled in a moment, and"
            " nothing is lost",
        )

    def tell_of_waiting(self, row: GroupRow, reason: str) -> None:
        self._core.emit(
            "group-waits",
            group=row.id.hex(),
            name=row.name,
            reason=reason,
            detail=_WAITING[reason],
        )

    def _tell_of_healing(
        self,
        row: GroupRow,
        tree: Tree,
        undone: Sequence[CommitHash],
        forks: Sequence[CommitHash],
        lost: Sequence[str],
        resent: int,
    ) -> None:
        at = {tree.nodes[undone[0]].parent} if undone and undone[0] in tree else set()
        children = [child for fork in [*at, *forks] for child in tree.children(fork)]
        names = self._authors(tree, children)
        parts = [f"{_listed(names)} changed the group at the same time, and it is one group again"]
        if lost:
            parts.append(f"proposed again: {_listed(lost)}")
        if resent:
            parts.append(f"{resent} of your messages sent again")
        parts.append("nothing was lost")
        self._core.emit(
            "group-healed",
            group=row.id.hex(),
            name=row.name,
            by=names,
            proposed_again=list(lost),
            resent=resent,
            readmitted=[],
            lost=[],
            detail="; ".join(parts),
        )

    def _authors(self, tree: Tree, commits: Iterable[CommitHash]) -> list[str]:
        names = []
        for commit in commits:
            node = tree.nodes[commit]
            owners = tree.members(node.parent)
            names.append(self._core.name_of(owners[node.author]))
        return list(dict.fromkeys(names))

    def _in_words(self, intent: Intent) -> str:
        core = self._core
        match intent.kind:
            case IntentKind.ADD:
                people = dict.fromkeys(member.identity for member in intent.members)
                return f"invitation of {_listed([core.name_of(person) for person in people])}"
            case IntentKind.REMOVE if intent.subject is not None:
                return f"removal of {core.name_of(intent.subject)}"
            case IntentKind.PROMOTE if intent.subject is not None:
                return f"{core.name_of(intent.subject)} as an admin"
            case IntentKind.LEAVE:
                owner = core.people.owner(intent.author)
                return f"leaving of {'somebody' if owner is None else core.name_of(owner)}"
            case _:
                return "new keys"


def _listed(words: Sequence[str]) -> str:
    """In a sentence: "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
