"""The command `audit`: shows and verifies the log of a relay, and signs checkpoints."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.audit import read_checkpoint_untrusted, write_checkpoint
from relay.audit_command import line_of
from relay.server import open_relay
from relay.store.accounts import about_account
from relay.store.audit import START, Place, Row
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Malformed
from tests.relay.process import Ended, RelayProcess, run_relay
from tests.relay.support import DAY, NOW, Clock, config_for, new_device


def audit(folder: Path, *arguments: str) -> Ended:
    return run_relay("audit", "--data-dir", str(folder), *arguments, "--json")


def lines(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.out.splitlines()]


def by_hand(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "relay.db")) as hand, hand:
        hand.execute(sql)


def test_a_running_relays_log_is_shown_verified_and_signed(tmp_path: Path) -> None:
    data, paper = tmp_path / "data", tmp_path / "friday.json"
    with RelayProcess(data) as relay:
        event, head = lines(audit(data))
        assert event["event"] == "relay-started"
        assert event["subject"] == f"device:{relay.ready['device']}"
        assert head["head"] == {"number": 1, "hash": event["hash"]}
        assert audit(data, "--since", "2100-01-01").out.count("\n") == 1
        [done] = lines(audit(data, "--checkpoint", str(paper)))
        assert (done["ok"], done["rows"]) == (True, 1)
        assert audit(data, "--checkpoint", str(paper)).error["code"] == "cannot-write-file"
        assert relay.end().code == 0
    assert [row["event"] for row in lines(audit(data))[:-1]] == ["relay-started", "relay-stopped"]
    *rows, last = run_relay("audit", "--data-dir", str(data)).out.splitlines()
    key = relay.ready["device"][:12]
    day = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    for number, line in enumerate(rows, 1):
        assert re.fullmatch(rf"{number}  {day}  relay-(started|stopped)      device:{key}", line)
    assert len(rows) == 2
    assert re.fullmatch(r"Head: row 2, [0-9a-f]{64}", last)
    assert audit(data, "--against", str(paper)).code == 0

    by_hand(data, "DELETE FROM audit WHERE number = 2")
    assert audit(data, "--against", str(paper), "--verify").code == 0, "the paper is older"
    by_hand(data, "DELETE FROM audit")
    assert audit(data, "--verify").code == 0, "an empty log is whole, to whoever has no paper"
    cut = audit(data, "--against", str(paper))
    assert (cut.code, cut.error["code"]) == (1, "audit-broken")
    assert "cut off" in cut.error["message"]


def test_a_row_fits_a_line_of_a_terminal() -> None:
    key = new_device().public
    row = Row(6, NOW, "device-registered", about_account("cy", key), b"", b"", b"\1" * 32)
    line = f"6  2027-01-15 08:00:00Z  device-registered  account:cy device:{key.hex()[:12]}"
    assert line_of(row) == line
    assert len(line) < 80
    assert line_of(replace(row, subject=None)).endswith("  (erased)")
    name = "deadbeef" * 4  # of an account, which is no key
    assert name in line_of(replace(row, subject=about_account(name)))


def test_a_changed_row_is_told_and_no_checkpoint_is_signed_of_it(tmp_path: Path) -> None:
    data, paper = tmp_path / "data", tmp_path / "friday.json"
    with RelayProcess(data) as relay:
        relay.end()
    by_hand(data, "UPDATE audit SET time = time + 1 WHERE number = 1")
    for arguments in (("--verify",), ("--checkpoint", str(paper))):
        ended = audit(data, *arguments)
        assert (ended.code, ended.error["code"]) == (1, "audit-broken")
    assert not paper.exists()


def test_a_checkpoint_is_of_one_relay_and_signed() -> None:
    key, place = new_device(), Place(7, bytes(range(32)))
    line = write_checkpoint(key, place, NOW)
    read = read_checkpoint_untrusted(line)
    assert (read.relay, read.place, read.time) == (key.public, place, NOW)
    told = json.loads(line)
    for name, value in (("number", 8), ("time", 0), ("hash", "00" * 32), ("relay", "11" * 32)):
        with pytest.raises(Malformed):
            read_checkpoint_untrusted(json.dumps(told | {name: value}))
    for garbage in ("", "[]", "{}", '{"relay": 1}', json.dumps(told | {"number": -1})):
        with pytest.raises(Malformed):
            read_checkpoint_untrusted(garbage)


def test_another_relays_checkpoint_is_refused(tmp_path: Path) -> None:
    with RelayProcess(tmp_path / "data") as relay:
        relay.end()
    paper = tmp_path / "other.json"
    paper.write_text(write_checkpoint(new_device(), Place(0, START), NOW))
    assert audit(tmp_path / "data", "--against", str(paper)).error["code"] == "other-relay"


def test_there_is_nothing_to_audit_without_a_relay(tmp_path: Path) -> None:
    assert audit(tmp_path).error["code"] == "no-file"
    assert not (tmp_path / "relay.db").exists()


async def test_rows_older_than_audit_days_go_by_themselves(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    config = config_for(tmp_path, audit_days=30)
    async with open_relay(config, clock=clock):
        pass
    clock.now += 31 * DAY
    async with open_relay(config, clock=clock) as relay:
        while (await relay.store.audit.begin()).number < 2:
            await relay.store.probe(now=int(clock()))  # until the first round of the house
    store = await SqliteStore.open(config.database)
    kept = [row.event for row in await store.audit.rows(limit=10)]
    await store.close()
    assert kept == ["relay-started", "audit-trimmed", "relay-stopped"]
    assert audit(tmp_path, "--verify").code == 0
