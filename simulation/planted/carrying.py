"""Bugs on a message's way: outbox, delivery, arrivals, receipts; and about the clock."""

from __future__ import annotations

from typing import Final

from simulation.planted.bug import Bug, Change

_OUTBOX: Final = "node.engine.outbox"
_ARRIVALS: Final = "node.engine.arrivals"
_WATERMARKS: Final = "node.engine.watermarks"
_CONVERSATION: Final = "node.engine.conversation"
_ENGINE: Final = "node.engine.engine"
_CLOCK: Final = "node.engine.clock"

_LOST: Final = ("nothing-lost",)

CARRYING: Final = (
    Bug(
        "given-up-early",
        "outbox",
        "A message is tried for 30 days.",
        "Who was away for half a minute never gets it.",
        (Change(_OUTBOX, "MESSAGE_LIFETIME_S = 30 * 86_400", "MESSAGE_LIFETIME_S = 30"),),
        "partition-and-heal",
        4,
        _LOST,
    ),
    Bug(
        "ack-is-delivered",
        "receipts",
        "`delivered` is the recipient's signed word; a link's ack is not.",
        "What its recipient cannot read counts as delivered, and is not sealed again.",
        (Change(_OUTBOX, 'State.SENT, path="direct")', 'State.DELIVERED, path="direct")'),),
        "two-members",
        2,
        _LOST,
    ),
    Bug(
        "gaps-as-received",
        "receipts",
        "What lies between two numbers that came is told as missing.",
        "A message that the full disk refused counts as there when the next one comes.",
        (
            Change(
                _WATERMARKS,
                "missing.update(range(max(mark.highest + 1, sequence - MAX_MISSING), sequence))",
                "pass",
            ),
        ),
        "disks-full",
        3,
        _LOST,
    ),
    Bug(
        "receipt-in-advance",
        "receipts",
        "A receipt confirms what is here.",
        "The message after the last one counts as delivered before it is sent.",
        (
            Change(
                _WATERMARKS,
                "return AuthorMark(author, mark.base, mark.highest, missing,",
                "return AuthorMark(author, mark.base, mark.highest + 1, missing,",
            ),
        ),
        "two-members",
        2,
        _LOST,
    ),
    Bug(
        "early-forgotten",
        "arrivals",
        "What came before its epoch is kept until that comes, and is not seen before.",
        "Messages that overtake their commit are acknowledged and gone.",
        (
            Change(
                _ARRIVALS,
                "            return values.Accepted() if kept else",
                "            core.messages.take_parked(body.group)\n"
                "            core.messages.mark_seen(digest, core.now + SEEN_S, None, None)\n"
                "            return values.Accepted() if kept else",
            ),
        ),
        "overtaken",
        3,
        _LOST,
    ),
    Bug(
        "past-epochs-refused",
        "arrivals",
        "Messages of the epochs before are read.",
        "What was written just before a commit is refused just after it.",
        (
            Change(
                _ARRIVALS,
                "        past = body.epoch_id != row.epoch_id\n",
                "        past = body.epoch_id != row.epoch_id\n        if past:\n"
                '            raise Malformed("past-epoch", "a message of a past epoch")\n',
            ),
        ),
        "two-members",
        2,
        _LOST,
    ),
    Bug(
        "unknown-branch-refused",
        "arrivals",
        "Messages of a branch that is not known yet wait for it.",
        "The other side's messages are refused when a partition heals.",
        (
            Change(
                _ARRIVALS,
                "                self._commits.other_branch(row, body.epoch_id, body.statement)\n"
                "            raise Early\n",
                "                self._commits.other_branch(row, body.epoch_id, body.statement)\n"
                '            raise Malformed("unknown-branch", "a message of an unknown branch")\n',
            ),
        ),
        "two-members",
        2,
        _LOST,
    ),
    Bug(
        "read-as-it-came",
        "conversation",
        "A conversation reads by what its authors had seen, not by what came first.",
        "Answers stand before their questions, and everybody reads another conversation.",
        (
            Change(
                _CONVERSATION,
                "rows.sort(key=lambda r: (r.lamport, r.author, r.sequence))",
                "rows.sort(key=lambda r: r.arrival)",
            ),
        ),
        "two-members",
        2,
        ("one-order", "authors-in-order"),
    ),
    Bug(
        "timers-stand-still",
        "clock",
        "A clock that goes back takes what waits for a time along.",
        "A group stays split for the hour that the clock went back.",
        (
            Change(
                _ENGINE,
                "                    self._set_timers_anew()\n",
                "                    pass\n",
            ),
        ),
        "clock-back",
        3,
        ("one-epoch",),
    ),
    Bug(
        "clock-believed",
        "clock",
        "A step forward of more than a day is doubted for an hour.",
        "A clock that is wrong for a minute expires every message that waits.",
        (
            Change(
                _CLOCK,
                "doubted = now if self.believed and now - self.believed > JUMP_S else None",
                "doubted = None",
            ),
        ),
        "clock-ahead",
        3,
        _LOST,
    ),
    Bug(
        "held-is-done",
        "outbox",
        "What a relay holds stays in the outbox until its receipt.",
        "Who comes back after the relay's time is over never gets it.",
        (
            Change(
                _OUTBOX,
                "        if row.kind in _ENDS_WITH_RELAY:\n",
                '        if row.kind in _ENDS_WITH_RELAY or row.kind == "message":\n',
            ),
        ),
        "asleep-ten-days",
        4,
        _LOST,
        seed=1,
    ),
    Bug(
        "courier-not-called",
        "delivery",
        "Parcels that are due bring out a courier.",
        "Everything is ready to go, and nothing goes.",
        (
            Change(
                "node.delivery.courier",
                "        for device in devices:\n            courier = self._couriers",
                "        for device in ():\n            courier = self._couriers",
            ),
        ),
        "quiet-group",
        3,
        ("everybody-joins",),
        tier="wire",
    ),
    Bug(
        "turn-kept",
        "delivery",
        "A courier that has had its turn passes it on.",
        "After some recipients, nobody is written to.",
        (
            Change(
                "node.delivery.turns",
                "    def _pass_on(self) -> None:\n",
                "    def _pass_on(self) -> None:\n        return\n",
            ),
        ),
        "quiet-group",
        4,
        ("everybody-joins", "one-epoch", "nothing-lost"),
        tier="wire",
    ),
    Bug(
        "engine-not-woken",
        "delivery",
        "The engine is woken at the time that it asked for.",
        "Whatever waits for a moment waits until something else happens.",
        (
            Change(
                "node.engine_thread",
                "            self._timer = self._loop.call_later(wait, self._put_tick)\n",
                "            self._timer = None\n",
            ),
        ),
        "two-members",
        2,
        ("one-epoch", "everybody-joins", "nothing-lost"),
        tier="wire",
    ),
)
