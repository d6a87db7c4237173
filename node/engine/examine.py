"""`doctor GROUP`: why a group waits, if it does, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from node.engine import commands
from node.engine.core import Core
from node.engine.explain import Explain
from node.engine.groups.wishes import rank_key
from node.engine.standing import Commits, places
from node.engine.values import HOLDING, GroupStatus, Standing, State
from node.engine.views import group_view
from node.store import reports
from node.store.groups import GroupRow
from schemas.group_records import Intent, IntentKind, Statement
from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.parcels import MessageContent, ParcelBody
from schemas.times import utc
from telemetry.checks import Check

LATE_S: Final = 60.0  # a wish is carried, and a commit that is missing comes, well within that
_LATEST: Final = 50  # messages of ours: what became of older ones is no news
_ON_ITS_WAY: Final = frozenset({State.SENT, State.HELD, State.CARRIED})  # nothing is in its way
_INVITE_AGAIN: Final = "ask an admin to invite you again: `invite --again`"
_MEMBERSHIP: Final = {
    GroupStatus.ACTIVE: ("a member, in one branch with all that was heard", ""),
    GroupStatus.SPLIT: (
        "two members changed it at once, and it is being decided whose change counts",
        "it heals by itself, normally within seconds; if it lasts, start the nodes of the others",
    ),
    GroupStatus.STRANDED: (
        "this device cannot enter the branch that the members chose, and asked to be re-admitted",
        "start the node of a member who is on it: they take you in again by themselves",
    ),
    GroupStatus.DAMAGED: ("its keys on disk are damaged; what comes for it waits", _INVITE_AGAIN),
    GroupStatus.RESTORED: ("known from a backup; this device is not in it", _INVITE_AGAIN),
    GroupStatus.LEAVING: ("you asked to leave; a member has to commit it", "wait for their node"),
    GroupStatus.LEFT: ("you left it", "ask to be invited"),
    GroupStatus.REMOVED: ("you were removed from it", "ask to be invited"),
}

_NOT_CARRIED_BY_AUTHOR: Final = frozenset({IntentKind.LEAVE, IntentKind.READMIT})
_WISHES: Final = {
    IntentKind.LEAVE: "{author} leaves",
    IntentKind.REMOVE: "{author} removes {whom}",
    IntentKind.UPDATE: "{author} renews their key",
    IntentKind.ADD: "{author} invites {whom}",
    IntentKind.READMIT: "{author} comes back in",
    IntentKind.PROMOTE: "{author} makes {whom} an admin",
}


def membership(status: GroupStatus, group: GroupId, *, accepted: bool) -> Check:
    if not accepted:
        fix = f"quicnprotochat join {group.hex()[:12]}"
        return Check("membership", False, "the invitation waits for your answer", fix)
    detail, fix = _MEMBERSHIP[status]
    return Check("membership", status is GroupStatus.ACTIVE, detail, fix)


@dataclass(frozen=True, slots=True)
class Examine:
    core: Core
    explain: Explain

    def group(self, command: commands.ExamineGroup) -> tuple[Check, ...]:
        """Raises Refused `unknown-group`."""
        row = self.core.group(command.group)
        view = group_view(self.core, row)
        checks = [membership(view.status, row.id, accepted=row.accepted)]
        if view.status in HOLDING:
            checks += [
                self._members(row),
                self._branches(row),
                self._wishes(row),
                self._early(row),
                self._snapshots(row),
                *self._equivocators(row),
            ]
        return (*checks, *self._delivery(row))

    def _members(self, row: GroupRow) -> Check:
        people = list(dict.fromkeys(m.identity for m in self.core.groups.members(row.id)))
        me = self.core.identity.public
        unknown = [p for p in people if p != me and self.core.people.bundle(p) is None]
        return Check(
            "members",
            not unknown,
            f"{len(people)} people, epoch {row.epoch}"
            + (f"; no keys yet of {self._names(unknown)}" if unknown else ""),
            "their keys come when they or a relay of theirs can be reached" if unknown else "",
        )

    def _branches(self, row: GroupRow) -> Check:
        """Behind is where everybody is who was away; another branch is what must not last."""
        members = {member.device: member.identity for member in self.core.groups.members(row.id)}
        found: dict[Standing, list[IdentityKey]] = {}
        for device, place in places(self.core, row).items():
            found.setdefault(place.standing, []).append(members[device])
        words = {
            Standing.BEHIND: "behind: {}",
            Standing.AHEAD: "ahead of us, at a change that we lack: {}",
            Standing.ELSEWHERE: "on another branch: {}",
            Standing.UNKNOWN: "not heard yet: {}",
        }
        told = [text.format(self._names(found[at])) for at, text in words.items() if at in found]
        apart = bool(found.keys() & {Standing.AHEAD, Standing.ELSEWHERE})
        fix = "start their nodes, or those of others who have met them: it heals when they meet"
        detail = "; ".join(told) or f"all are at epoch {row.epoch}"
        return Check("branches", not apart, detail, fix if apart else "")

    def _wishes(self, row: GroupRow) -> Check:
        wishes = self.core.intents.open(row.id)
        if not wishes:
            return Check("changes", True, "none waits to be made")
        members = [member.device for member in self.core.groups.members(row.id)]
        intents = [wish.intent for wish in wishes]
        out = {intent.author for intent in intents if intent.kind in _NOT_CARRIED_BY_AUTHOR}
        turns = sorted(set(members) - out, key=lambda device: rank_key(row, device))
        since = min(wish.seen for wish in wishes)
        told = ", ".join(self._wish(intent) for intent in intents)
        whose = f"; {self._owners(turns[:1])} is first in turn to make it" if turns else ""
        late = self.core.now - since > LATE_S
        return Check(
            "changes",
            not late,
            f"{told}, since {_time(since)}{whose}",
            f"start the node of {self._owners(turns[:1]) or 'a member'}, or of another member"
            if late
            else "",
        )

    def _wish(self, intent: Intent) -> str:
        author = self._owners([intent.author])
        match intent.kind:
            case IntentKind.ADD:
                whom = self._names(member.identity for member in intent.members)
            case IntentKind.REMOVE | IntentKind.PROMOTE if intent.subject is not None:
                whom = self._names([intent.subject])
            case _:
                whom = ""
        return _WISHES[intent.kind].format(author=author, whom=whom)

    def _early(self, row: GroupRow) -> Check:
        commits = self.core.branches.commits(row.id)
        waiting = [
            arrival
            for body, arrival in reports.early(self.core.db, row.id)
            if not _is_of_lost_branch(commits, ParcelBody.decode(body))
        ]
        if not waiting:
            return Check("missing changes", True, "none: all that came could be read")
        count, oldest = len(waiting), waiting[0]
        late = self.core.now - oldest > LATE_S
        what = f"{count} parcel{'s wait' if count > 1 else ' waits'} for a change that we lack"
        return Check(
            "missing changes",
            not late,
            f"{what}, since {_time(oldest)}",
            "start another member's node: whoever has the change hands it on" if late else "",
        )

    def _snapshots(self, row: GroupRow) -> Check:
        count, size, oldest = reports.snapshots(self.core.db, row.id)
        reach = f"{count} epochs, to epoch {oldest} ({size // 1024} KiB)" if count else "none yet"
        return Check("way back", True, f"{reach}: how far another branch can still be entered")

    def _equivocators(self, row: GroupRow) -> Iterator[Check]:
        if devices := sorted(self.core.branches.equivocators(row.id)):
            who = self._owners(devices)
            yield Check(
                "equivocation",
                False,
                f"a device of {who} signed two different states of the group under one number, "
                "and has no say in forks any more",
                f"ask {who}: a broken or copied device is removed with `remove`",
            )

    def _delivery(self, row: GroupRow) -> Iterator[Check]:
        """Our messages that are not everywhere, one line for each person and reason."""
        reasons: dict[tuple[bool, str, str], int] = {}
        for message, device, count in reports.waiting(self.core.db, row.id, _LATEST):
            entry = self.core.outbox.ledger_entry(message, device)
            if entry is not None:
                why = (State(entry.state) in _ON_ITS_WAY, *self.explain.explain(entry))
                # The same message may wait for several devices for one reason.
                reasons[why] = max(count, reasons.get(why, 0))
        for (well, sentence, action), count in reasons.items():
            yield Check(
                "delivery", well, f"{count} message{'s' if count > 1 else ''}: {sentence}", action
            )
        if not reasons:
            yield Check("delivery", True, "everybody has what was written lately")

    def _names(self, people: Iterable[IdentityKey]) -> str:
        return ", ".join(self.core.name_of(person) for person in dict.fromkeys(people))

    def _owners(self, devices: Sequence[DeviceKey]) -> str:
        owners: Callable[[DeviceKey], IdentityKey | None] = self.core.people.owner
        return self._names(person for device in devices if (person := owners(device)))


def _is_of_lost_branch(commits: Commits, parcel: ParcelBody) -> bool:
    """A message from a commit that is here, and was not chosen: its author seals it again."""
    if not isinstance(parcel.content, MessageContent) or parcel.statement is None:
        return False
    known = commits.get(Statement.decode(parcel.statement.payload).commit)
    return known is not None and known.here


def _time(seconds: float) -> str:
    return utc(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
