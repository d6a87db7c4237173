"""Bugs in repair after a fork, and in the store."""

from __future__ import annotations

from typing import Final

from simulation.planted.bug import Bug, Change

_CHOICE: Final = "node.engine.groups.fork_choice"
_EPOCHS: Final = "node.engine.groups.epochs"
_REPAIR: Final = "node.engine.groups.repair"
_CONVERSATION: Final = "node.engine.conversation"
_CORE: Final = "node.engine.core"
_ENGINE: Final = "node.engine.engine"
_MESSAGES: Final = "node.store.messages"
_OUTBOX: Final = "node.store.outbox"
_DATABASE: Final = "node.store.database"

_LOST: Final = ("nothing-lost",)
_TWICE: Final = ("generation-once",)

MENDING: Final = (
    Bug(
        "never-sealed-again",
        "repair",
        "Own messages that the winning branch cannot read are sealed again.",
        "What was written on the losing side is never read on the other.",
        (Change(_CHOICE, "reseal: bool = True", "reseal: bool = False"),),
        "partition-and-heal",
        6,
        _LOST,
    ),
    Bug(
        "sealed-under-a-new-id",
        "repair",
        "What is sealed again keeps its message id.",
        "Who had the message has it twice, and its author never learns that it came.",
        (
            Change(
                _CONVERSATION,
                "            stored.id,\n            stored.sequence,\n",
                "            MessageId(core.random(16)),\n            stored.sequence,\n",
            ),
        ),
        "partition-and-heal",
        4,
        ("nothing-lost", "shown-once", "authors-in-order"),
    ),
    Bug(
        "sealed-at-a-new-place",
        "repair",
        "What is sealed again keeps its place in the conversation.",
        "Two members read one conversation in different orders.",
        (Change(_CONVERSATION, "            stored.lamport,\n", "            row.lamport + 1,\n"),),
        "partition-and-heal",
        4,
        ("one-order", "authors-in-order"),
    ),
    Bug(
        "lost-wishes-dropped",
        "repair",
        "Wishes that a lost commit carried are proposed again.",
        "An admin removed somebody, was told so, and they are still there.",
        (
            Change(
                _REPAIR,
                "core.intents.set_done(row.id, [intent.id], done=False)",
                "continue",
            ),
        ),
        "removal-by-the-few",
        4,
        ("removed-stay-out",),
    ),
    Bug(
        "renewed-not-served",
        "repair",
        "Members with a new leaf get sealed again what they cannot read.",
        "Who was taken in again misses what was written meanwhile.",
        (
            Change(
                _REPAIR,
                "self._seal_open(row, lambda sequence, device: False, only=device)",
                "pass",
            ),
            Change(
                _REPAIR,
                "return index is not None and index >= joined.get(device, 0)",
                "return index is not None",
            ),
        ),
        "beyond-the-bound",
        3,
        _LOST,
    ),
    Bug(
        "no-snapshot-before-own-commit",
        "store",
        "The state is kept before an own commit, too.",
        "Whoever loses a race must be taken in again, instead of stepping back.",
        (
            Change(
                _EPOCHS,
                "        core.keep_snapshot(row)\n        before = ",
                "        if effect.committer.signature_key != core.device.public:\n"
                "            core.keep_snapshot(row)\n        before = ",
            ),
        ),
        "heals-at-once",
        4,
        ("one-epoch",),
    ),
    Bug(
        "generations-go-back",
        "store",
        "Whoever loads a group skips the generations that it used, whatever the state says.",
        "One key and nonce for two messages: who has both can read them.",
        (
            Change(
                _CORE, "            if used > loaded.next_generation:\n", "            if False:\n"
            ),
        ),
        "crash-loop",
        3,
        _TWICE,
    ),
    Bug(
        "generations-not-written",
        "store",
        "The next free generation is on disk before a message leaves.",
        "The same, after a crash.",
        (
            Change(
                _CORE,
                "        self.groups.put_next_generation(row, mls.next_generation)\n",
                "",
            ),
        ),
        "crash-loop",
        3,
        _TWICE,
    ),
    Bug(
        "message-replaced",
        "store",
        "A message that comes again, sealed anew, is the one that is there.",
        "It is shown again.",
        (Change(_MESSAGES, "INSERT OR IGNORE INTO messages", "INSERT OR REPLACE INTO messages"),),
        "three-members",
        3,
        ("shown-once",),
        seed=1,
    ),
    Bug(
        "cursor-too-far",
        "store",
        "A cursor moves to what was shown, and no further.",
        "The next message is never shown.",
        (
            Change(
                _MESSAGES,
                "DO UPDATE SET arrival = max(arrival, ?3)",
                "DO UPDATE SET arrival = ?3 + 1",
            ),
        ),
        "two-members",
        2,
        _LOST,
    ),
    Bug(
        "receipt-settles-all",
        "store",
        "A receipt drops the parcels of the device that gave it, and no others.",
        "When the first has it, nobody else gets it.",
        (
            Change(
                _OUTBOX,
                'outbox_by_payload WHERE recipient = ?2"\n            " AND payload',
                'outbox_by_payload WHERE ?2 = ?2"\n            " AND payload',
            ),
        ),
        "mutual-removal",
        4,
        _LOST,
    ),
    Bug(
        "memory-outlives-rollback",
        "store",
        "What is remembered of rows is read again when something written was undone.",
        "After a full disk a member believes in a group that is not on its disk.",
        (
            Change(
                _DATABASE,
                "if self._loaded is None or self._loaded[0] != self._db.undone:",
                "if self._loaded is None:",
            ),
        ),
        "disks-full",
        3,
        ("one-epoch", "everybody-joins", "nothing-lost", "one-roster"),
    ),
    Bug(
        "mls-outlives-rollback",
        "journal",
        "What MLS did in a batch that was not written never happened.",
        "Numbers on disk are behind those used: the next message reuses a key.",
        (Change(_ENGINE, "        self._core.forget_everything()\n", ""),),
        "disks-full",
        3,
        _TWICE,
    ),
    Bug(
        "told-though-not-written",
        "journal",
        "Nothing is answered as done before the transaction is on disk.",
        "A full disk: the user was told that the message is on its way, and it is nowhere.",
        (
            Change(
                _ENGINE,
                "return BatchResult(tuple(error for _ in batch), (), now + LONGEST_WAIT_S)",
                "return BatchResult(tuple(answers), (), now + LONGEST_WAIT_S)",
            ),
        ),
        "disks-full",
        3,
        ("shown-once", "everybody-owed", "nothing-lost"),
    ),
)
