"""Bugs in fork choice, in the shell that moves a device, and in who may do what."""

from __future__ import annotations

from typing import Final

from simulation.planted.bug import Bug, Change

_CHOICE: Final = "node.engine.groups.fork_choice"
_SHELL: Final = "node.engine.groups.convergence"
_COMMITS: Final = "node.engine.groups.commits"
_RULES: Final = "node.engine.groups.rules"
_STATEMENTS: Final = "node.engine.groups.statements"

_ONE_EPOCH: Final = ("one-epoch",)
_SETTLED: Final = ("settled-work-stays",)

CHOOSING: Final = (
    Bug(
        "strangers-vote",
        "fork choice",
        "Only members of the forking epoch vote: others' words are not kept, and not counted.",
        "An insider adds devices of its own on an old epoch, and they outvote settled work.",
        (
            Change(_CHOICE, " and device in voters and device not in mute:", ":"),
            Change(
                _CHOICE,
                "supported[voters[device]]",
                "supported[voters.get(device, IdentityKey(device))]",
            ),
            Change(
                _STATEMENTS,
                "if author == core.device.public or author not in core.branches.devices(row.id):",
                "if author == core.device.public:",
            ),
        ),
        "sybils",
        5,
        _SETTLED,
    ),
    Bug(
        "equivocators-vote",
        "fork choice",
        "Who said two things under one number has no vote.",
        "Members who heard a liar's two stories in another order choose another branch.",
        (Change(_CHOICE, "if device not in votes.equivocators and ", "if "),),
        "equivocating-member",
        5,
        _ONE_EPOCH,
        2,
    ),
    Bug(
        "own-branch-preferred",
        "fork choice",
        "Where a device stands has no weight in what it chooses.",
        "Two members commit at once, and each stays where it is for ever.",
        (Change(_CHOICE, "rule.sticky and not tree.is_below", "not tree.is_below"),),
        "two-members",
        2,
        _ONE_EPOCH,
    ),
    Bug(
        "tie-by-arrival",
        "fork choice",
        "Ties go by rank and hash, never by what arrived first.",
        "Each side of a tie stays with what it saw first.",
        (
            Change(
                _CHOICE,
                "            rank(tree.group, fork, node.author),\n            kid,\n",
                '            list(tree.nodes).index(kid).to_bytes(8, "big"),\n            kid,\n',
            ),
        ),
        "two-members",
        2,
        _ONE_EPOCH,
    ),
    Bug(
        "longest-chain",
        "fork choice",
        "Votes choose, not the number of commits on a branch.",
        "A removed member that commits fast enough comes back again and again.",
        (Change(_CHOICE, '"longest"] = "votes"', '"longest"] = "longest"'),),
        "fast-insider",
        5,
        ("removal-holds",),
    ),
    Bug(
        "static-order",
        "fork choice",
        "Votes come before the static order of siblings.",
        "One commit that comes late undoes any number of settled ones.",
        (Change(_CHOICE, '"longest"] = "votes"', '"longest"] = "static"'),),
        "late-release",
        5,
        ("settled-work-stays", "settled-members-stay"),
    ),
    Bug(
        "final-bound",
        "fork choice",
        "Any number of commits can be undone while there is a snapshot.",
        "Who committed thrice while alone stays alone.",
        (Change(_CHOICE, "final_bound: int | None = None", "final_bound: int | None = 2"),),
        "partition-and-heal",
        6,
        _ONE_EPOCH,
    ),
    Bug(
        "silent-readers",
        "convergence",
        "Who sees a fork says where it stands, also when it has nothing else to say.",
        "Where people only read, one withheld commit undoes four that all had followed.",
        (Change(_CHOICE, "emit: bool = True", "emit: bool = False"),),
        "withheld-from-readers",
        5,
        _SETTLED,
    ),
    Bug(
        "no-word-before-choosing",
        "convergence",
        "Who has been on a branch for 10 s says so before it looks at a late sibling.",
        "A withheld commit finds everybody undecided, and wins by rank.",
        (Change(_CHOICE, "first_s: float = 10.0", "first_s: float = 1e9"),),
        "withheld-from-readers",
        5,
        _SETTLED,
        seed=1,
    ),
    Bug(
        "never-asks-readmission",
        "convergence",
        "Who cannot enter the branch that won asks it for a new leaf.",
        "Who went on alone for too long stays outside for ever.",
        (
            Change(
                _SHELL,
                "self._intents.ask_readmission(row, view.tree.members(target), epoch)",
                "return",
            ),
        ),
        "beyond-the-bound",
        3,
        _ONE_EPOCH,
    ),
    Bug(
        "forgets-to-look-again",
        "convergence",
        "A move that waits for its quiet second is looked at when that is over.",
        "A group stays split until something else happens in it.",
        (Change(_SHELL, "        self._wake(row.id, since + rule.quiet_s)\n", ""),),
        "two-at-once",
        4,
        _ONE_EPOCH,
    ),
    Bug(
        "orphans-not-looked-at",
        "convergence",
        "A commit that came before its parent is entered when the parent comes.",
        "A member misses an epoch because two parcels overtook each other.",
        (Change(_COMMITS, "forks_only=not came_before", "forks_only=True"),),
        "overtaken",
        3,
        _ONE_EPOCH,
    ),
    Bug(
        "anybody-removes",
        "membership rules",
        "Only admins remove others; a commit that breaks the rules is nobody's.",
        "Any member throws anybody out.",
        (
            Change(
                _RULES,
                "        if member.identity in who or any(self.governs(one) for one in who):\n",
                "        if who:\n",
            ),
        ),
        "only-admins-remove",
        3,
        ("only-admins-remove",),
    ),
    Bug(
        "nobody-may-leave",
        "membership rules",
        "Any member may carry another's wish to leave.",
        "The admin of a group never gets out of it.",
        (
            Change(
                _RULES,
                "if intent.kind is IntentKind.LEAVE and intent.author == member.device:",
                "if False:",
            ),
        ),
        "leaving",
        3,
        _ONE_EPOCH,
    ),
    Bug(
        "readmission-is-removal",
        "membership rules",
        "Any member may give a device that asks for it a new leaf in place of its own.",
        "Who cannot enter the branch that won is refused there.",
        (
            Change(
                _RULES,
                "        if member in added and self.readmitted(member):\n            return\n",
                "",
            ),
        ),
        "beyond-the-bound",
        3,
        _ONE_EPOCH,
    ),
)
