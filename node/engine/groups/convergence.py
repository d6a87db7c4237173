"""Convergence: the shell around fork choice that moves this device to the branch that was chosen.

The rule is stated in `fork_choice`; here stand its times and its ways: what is said before and
after choosing, how a branch is entered, and what is done by who cannot enter it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import mls_rs

from node.engine.core import Core
from node.engine.groups.entering import Entering, NoWay
from node.engine.groups.epochs import Epochs
from node.engine.groups.fork_choice import Node, Rule, Tree, Votes, choose, undecided
from node.engine.groups.intents import Intents
from node.engine.groups.repair import Repair
from node.engine.groups.statements import Statements
from node.engine.groups.ways import Ways
from node.engine.values import HOLDING, LIVE, GroupStatus
from node.store.groups import GroupRow
from schemas.errors import Fault, Malformed
from schemas.ids import CommitHash, DeviceKey, GroupId

log = logging.getLogger(__name__)

ASK_AFTER_S = 2.0
ASK_AGAIN_S = 60.0  # somebody may have carried it, and be gone with the Welcome
SOON_S = 0.01
ROUNDS = 8  # of looks in one batch: what was entered may bring more to look at


@dataclass(frozen=True, slots=True)
class _View:
    """A group's branches as this device knows them."""

    tree: Tree
    statements: dict[DeviceKey, CommitHash]
    equivocators: frozenset[DeviceKey]
    head: CommitHash  # where we stand, or last stood

    @property
    def votes(self) -> Votes:
        return Votes(self.statements, self.equivocators)


class Convergence:
    """`entered` is told of each group that came to another epoch, for what waited for it."""

    def __init__(
        self,
        core: Core,
        epochs: Epochs,
        statements: Statements,
        intents: Intents,
        repair: Repair,
        entering: Entering,
        rule: Rule,
    ) -> None:
        self._core = core
        self._epochs = epochs
        self._statements = statements
        self._intents = intents
        self._repair = repair
        self._entering = entering
        self._rule = rule
        self.entered: Callable[[GroupId], None] = lambda group: None
        self._dirty: set[GroupId] | None = None
        self._looked: set[GroupId] = set()  # in this batch
        self._due: dict[GroupId, float] = {}
        self._news: dict[GroupId, float] = {}
        self._ask_at: dict[GroupId, float] = {}
        self._told: set[tuple[GroupId, CommitHash]] = set()
        self._shown: set[tuple[GroupId, CommitHash]] = set()

    # --- what is new

    def look_at(self, group: GroupId, *, forks_only: bool = False) -> None:
        """Something about its branches is new; with `forks_only` it matters where there is one."""
        if not forks_only or self._core.branches.forked(group):
            self._unsettled().add(group)
            self._news[group] = self._core.now

    def _unsettled(self) -> set[GroupId]:
        """Those to look at. At first all that wait, or have a fork; read in a batch, because only
        a batch mends rows that are damaged."""
        core = self._core
        if self._dirty is None:
            self._dirty = {
                row.id
                for row in core.groups.all()
                if row.status in (GroupStatus.SPLIT, GroupStatus.STRANDED)
                or core.branches.forked(row.id)
            }
        return self._dirty

    def is_settled(self, group: GroupId) -> bool:
        return group not in self._unsettled() and group not in self._due

    # --- the end of a batch

    def tick(self) -> None:
        now = self._core.now
        self._looked = set()
        for _ in range(ROUNDS):
            due = {group for group, when in self._due.items() if when <= now}
            groups, self._dirty = sorted(self._unsettled() | due), set()
            if not groups:
                break
            for group in groups:
                self._looked.add(group)
                self._due.pop(group, None)
                self._settle(group)

    def undo_batch(self) -> None:
        """It could not be committed: what was looked at is to be looked at again."""
        if self._dirty is not None:
            self._dirty |= self._looked

    def clock_went_back(self) -> None:
        self._unsettled().update(self._due)
        self._due.clear()

    def next_due(self) -> float | None:
        if self._dirty:  # more than one batch looks at
            return self._core.now + SOON_S
        return min(self._due.values(), default=None)

    def _wake(self, group: GroupId, when: float) -> None:
        self._due[group] = min(when, self._due.get(group, when))

    def _settle(self, group: GroupId) -> None:
        """A group that cannot be settled does not stop the others."""
        core = self._core
        for _ in range(len(core.branches.commits(group)) + 1):
            row = core.groups.get(group)
            if row is None or row.status in (GroupStatus.LEFT, GroupStatus.RESTORED):
                return
            try:
                with core.undoable():
                    self._choose_or_fail(row)
            except NoWay as found:
                self._entering.condemn(group, found)
            except (Fault, mls_rs.MlsError) as error:
                core.count(f"settle-{error.code}")
                return
            else:
                return

    def _choose_or_fail(self, row: GroupRow) -> None:
        """A bug that somebody's commits bring to light stops this group, not the node."""
        try:
            self._choose(row)
        except (LookupError, TypeError, ValueError) as error:
            log.exception("the branches of a group could not be looked at")
            raise Malformed("crashed", "a bug of ours: please report it, with the log") from error

    # --- choosing

    def _choose(self, row: GroupRow) -> None:
        core, rule = self._core, self._rule
        view = self._view(row)
        if view is None:
            return
        me = core.device.public
        ways = Ways(core, row, view.tree)
        self._entering.check(row, view.tree, ways)
        known, view = view, self._heard(row, view, ways)
        tree = view.tree
        if row.status in LIVE and rule.emit:
            self._say_before_choosing(row, known)
            if row.accepted:
                self._show_late_siblings(row, known)
        target = choose(tree, view.votes, rule=rule)
        if me in tree.members(target):
            if not ways.leads_to(target):
                self._strand(row, view, target, "readmission")
                target = choose(tree, view.votes, ways.leads_to, rule)
            elif row.status == GroupStatus.STRANDED:
                row.status = GroupStatus.ACTIVE
                core.groups.save(row)
                self._ask_at.pop(row.id, None)
                self._intents.withdraw_readmission(row)
        else:
            removal = ways.exit(target)
            if removal is not None:
                target = removal
            else:  # we never were in it: who invited us is on a branch that lost
                self._strand(row, view, None, "removed-by-branch")
                target = view.head
        self._go(row, view, known, ways, target)

    def _heard(self, row: GroupRow, view: _View, ways: Ways) -> _View:
        """Without what is only claimed: where we hold the epoch before a commit, its author's word
        is not enough. It was checked here, or most of the others stand on it."""
        tree = view.tree
        claimed = {
            commit
            for commit in tree.nodes
            if tree.connected(commit)
            and commit != tree.root
            and ways.holds(tree.nodes[commit].parent)
            and not ways.is_proven(commit)
            and not self._entering.is_checked(row.id, commit)
            and not self._most_stand_on(view, commit)
        }
        if not claimed:
            return view
        nodes = [node for commit, node in tree.nodes.items() if commit not in claimed]
        heard = Tree(row.id, nodes, anchor=view.head, members=tree.members(view.head))
        return replace(view, tree=heard)

    def _most_stand_on(self, view: _View, commit: CommitHash) -> bool:
        """Of the other people who were there before it."""
        tree = view.tree
        people = tree.members(tree.nodes[commit].parent)
        others = set(people.values()) - {self._core.identity.public}
        behind = {
            people[device]
            for device, stated in view.statements.items()
            if device in people
            and device not in view.equivocators
            and tree.connected(stated)
            and tree.is_below(stated, commit)
        }
        return 2 * len(behind & others) > len(others)

    def _go(self, row: GroupRow, view: _View, known: _View, ways: Ways, target: CommitHash) -> None:
        core, rule, tree = self._core, self._rule, view.tree
        out = row.status == GroupStatus.REMOVED
        stays = core.device.public in tree.members(target)
        if out and not stays:
            self._say_where_held(row, view, ways)
            return
        if not out and tree.is_below(view.head, target):
            self._after(row, known, (), ())
            return
        fork = tree.common(target, view.head)
        undone = tree.path(view.head)[len(tree.path(fork)) :]
        if undone and not out and self._must_wait(row, view, fork):
            return
        if rule.final_bound is not None and len(undone) > rule.final_bound:
            return
        if not stays and ways.to(target) is None:
            if not self._most_stand_on(view, target):
                return
            core.keep_snapshot(row)
            self._epochs.put_out(row)  # by its header alone: its bytes cannot be processed
            return
        self._entering.move(row, ways, target)
        self._after(row, known, undone, tree.path(target)[len(tree.path(fork)) :])
        self._unsettled().add(row.id)  # from there, there may be more to choose
        self.entered(row.id)

    def _must_wait(self, row: GroupRow, view: _View, fork: CommitHash) -> bool:
        """A sideways move waits a moment from the first sight of the fork, for others' votes."""
        core, rule = self._core, self._rule
        commits = core.branches.commits(row.id)
        arrivals = sorted(commits[child].arrival for child in view.tree.children(fork))
        since = arrivals[1] if rule.hold else self._news.get(row.id, core.now)  # see RULES
        if not since <= core.now < since + rule.quiet_s:
            return False
        self._wake(row.id, since + rule.quiet_s)
        if row.status == GroupStatus.ACTIVE:
            row.status = GroupStatus.SPLIT
            core.groups.save(row)
            self._repair.tell_of_split(row, view.tree, fork)
        return True

    def _strand(self, row: GroupRow, view: _View, target: CommitHash | None, reason: str) -> None:
        """The branch that won cannot be entered: ask it to take us in; ours stays usable."""
        if row.status in LIVE and row.status != GroupStatus.STRANDED:
            row.status = GroupStatus.STRANDED
            self._core.groups.save(row)
            self._repair.tell_of_waiting(row, reason)
        if row.status != GroupStatus.STRANDED or target is None:
            return
        # Not at the first sight: others' votes may be on their way, and show that nobody need ask.
        ask_at = self._ask_at.setdefault(row.id, self._core.now + ASK_AFTER_S)
        if not row.accepted:
            return
        if ask_at - ASK_AFTER_S <= self._core.now < ask_at:
            self._wake(row.id, ask_at)
        else:
            self._wake(row.id, self._core.now + ASK_AGAIN_S)
            epoch = self._core.branches.commits(row.id)[target].epoch
            self._intents.ask_readmission(row, view.tree.members(target), epoch)

    # --- saying

    def _say_before_choosing(self, row: GroupRow, view: _View) -> None:
        """Who has been on a branch for a while says so before looking at a late sibling."""
        core, tree = self._core, view.tree
        path = tree.path(view.head)
        place = {commit: index for index, commit in enumerate(path)}
        commits = core.branches.commits(row.id)
        for fork in undecided(tree, view.head, self._said(row), core.device.public):
            child = commits.get(path[place[fork] + 1])
            since = core.now if child is None or child.entered is None else child.entered
            if core.now - since >= self._rule.first_s:
                self._say_head(row, view)
                return

    def _show_late_siblings(self, row: GroupRow, view: _View) -> None:
        """Once, to whoever was there and has not voted: who only reads may have been shown nothing
        of a commit that was held back."""
        core, tree = self._core, view.tree
        path = tree.path(view.head)
        commits = core.branches.commits(row.id)
        for fork, child in pairwise(path):
            children = tree.children(fork)
            entered = commits[child].entered if child in commits else None
            if len(children) < 2 or entered is None or (row.id, fork) in self._shown:
                continue
            last = max(commits[one].arrival for one in children if one != child)
            if last - entered < self._rule.first_s:
                continue  # they were made at once, and go to everybody by themselves
            self._shown.add((row.id, fork))
            voted = {
                device
                for device, stated in view.statements.items()
                if tree.connected(stated) and stated != fork and tree.is_below(stated, fork)
            }
            headers = (core.catch_up.header(row.id, sibling) for sibling in children)
            self._statements.show(
                row,
                tuple(header for header in headers if header is not None),
                sorted(set(tree.members(fork)) - voted),
            )

    def _after(
        self,
        row: GroupRow,
        view: _View,
        undone: tuple[CommitHash, ...],
        new: tuple[CommitHash, ...],
    ) -> None:
        """We are where we chose to be: repair what the move undid, and say where we stand."""
        if row.status == GroupStatus.SPLIT:
            row.status = GroupStatus.ACTIVE
            self._core.groups.save(row)
        if row.status not in HOLDING:
            return
        again = self._repair.after_choice(row, view.tree, undone, new, self._fresh(row, view))
        if again is not None:
            self._wake(row.id, again)
        if self._rule.emit and undecided(
            view.tree, row.head, self._said(row), self._core.device.public
        ):
            self._say_head(row, view)

    def _fresh(self, row: GroupRow, view: _View) -> list[CommitHash]:
        """Forks above us that nobody was told of, by this process or one before it."""
        tree = view.tree
        commits = self._core.branches.commits(row.id)
        found = []
        for fork in tree.path(row.head)[:-1]:
            children = tree.children(fork)
            if len(children) > 1 and (row.id, fork) not in self._told:
                self._told.add((row.id, fork))
                if max(commits[child].arrival for child in children) >= self._core.started:
                    found.append(fork)
        return found

    def _say_head(self, row: GroupRow, view: _View) -> None:
        core, tree = self._core, view.tree
        if not row.accepted:
            return  # nothing is said to a group before its invitation is accepted
        signed = self._statements.current(row)
        view.statements[core.device.public] = row.head
        members = set(tree.members(row.head))
        for fork in tree.forks():
            members |= set(tree.members(fork))
        self._statements.tell(row, signed, sorted(members))

    def _say_where_held(self, row: GroupRow, view: _View, ways: Ways) -> None:
        """Who is removed states the best branch whose secrets it still holds."""
        core, tree = self._core, view.tree
        me = core.device.public
        held = choose(tree, view.votes, ways.held_below, self._rule)
        commit = core.branches.commits(row.id).get(held)
        epoch_id = None if commit is None else commit.epoch_id
        if epoch_id is None or me not in tree.members(held):
            return
        if not self._rule.emit or not row.accepted:
            return
        forks = undecided(tree, held, self._said(row), me)
        if forks:
            signed = self._statements.say(row, held, epoch_id)
            self._statements.tell(row, signed, sorted(tree.members(forks[0])))

    def _said(self, row: GroupRow) -> CommitHash | None:
        statement = self._core.branches.statements(row.id).get(self._core.device.public)
        return None if statement is None else statement.commit

    # --- what is known

    def _view(self, row: GroupRow) -> _View | None:
        """None when nothing is left of where we stood."""
        core = self._core
        head = row.head
        members = {member.device: member.identity for member in core.groups.members(row.id)}
        if row.status == GroupStatus.REMOVED:
            last = self._repair.last_held(row)
            if last is None:
                return None
            head, members = last
        nodes = [
            Node(
                commit.hash,
                commit.parent,
                commit.header.author,
                commit.header.added,
                commit.header.removed,
            )
            for commit in core.branches.commits(row.id).values()
            if commit.header is not None and commit.invalid is None
        ]
        statements = {
            device: statement.commit
            for device, statement in core.branches.statements(row.id).items()
        }
        tree = Tree(row.id, nodes, anchor=head, members=members)
        return _View(tree, statements, core.branches.equivocators(row.id), head)
