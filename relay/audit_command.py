"""The command `audit`: shows the audit log, verifies it, and signs checkpoints."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import time
from pathlib import Path
from typing import Final

import click

from relay.audit import (
    Checkpoint,
    broken,
    portions,
    read_checkpoint_untrusted,
    verify,
    write_checkpoint,
)
from relay.cli import telling, with_settings
from relay.config import RelayConfig, load_config
from relay.keys import known_device
from relay.store.audit import Place, Row, Verdict
from relay.store.opening import reading_audit
from schemas.errors import Blame, Fault, Refused
from storage.ownership import open_owned

_KEY: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_EVENT: Final = len("device-registered")  # the longest that is common


@click.command("audit")
@with_settings
@click.option("--verify", "check", is_flag=True, help="See whether a row is missing or changed.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Show events from this time on (UTC).",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Verify, and write the signed head to this new file.",
)
@click.option(
    "--against",
    multiple=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Verify, also against this checkpoint.  [repeatable]",
)
def audit_command(
    config: Path | None,
    as_json: bool,
    check: bool,
    since: datetime.datetime | None,
    checkpoint: Path | None,
    against: tuple[Path, ...],
    **flags: object,
) -> None:
    """Show what happened to accounts and keys; or verify that no row of it was touched.

    Each row has a hash over all before it. Keep the last one, or a checkpoint, where whoever rules
    this machine cannot reach it: then a log that was cut off or written anew is found, too.

    \b
    Examples:
      quicnprotochat-relay audit --data-dir relay-data --since 2026-11-01
      quicnprotochat-relay audit --data-dir relay-data --checkpoint friday.json
      quicnprotochat-relay audit --data-dir relay-data --against friday.json
    """
    with telling(as_json=as_json):
        settings = load_config(flags, os.environ, config)
        if check or checkpoint or against:
            checkpoints = [_read(file) for file in against]
            if any(each.relay != known_device(settings).public for each in checkpoints):
                raise Refused(
                    "other-relay", "this checkpoint is of another relay", hint="check the file"
                )
            verdict = asyncio.run(_verify(settings, checkpoints))
            if checkpoint is not None:
                _write(
                    checkpoint,
                    write_checkpoint(known_device(settings), verdict.head, int(time.time())),
                )
            _tell_verdict(verdict, as_json=as_json)
        else:
            asyncio.run(_show(settings, since, as_json=as_json))


async def _verify(settings: RelayConfig, checkpoints: list[Checkpoint]) -> Verdict:
    async with reading_audit(settings) as log:
        verdict = await verify(log, checkpoints)
    if verdict.fault:
        raise broken(verdict)
    return verdict


async def _show(settings: RelayConfig, since: datetime.datetime | None, *, as_json: bool) -> None:
    first = 0.0 if since is None else since.replace(tzinfo=datetime.UTC).timestamp()
    async with reading_audit(settings) as log:
        head = await log.begin()
        async for rows in portions(log):
            head = Place(rows[-1].number, rows[-1].hash)
            for row in rows:
                if row.time >= first:
                    print(json.dumps(_shown(row)) if as_json else line_of(row))
    if as_json:
        print(json.dumps({"head": {"number": head.number, "hash": head.hash.hex()}}))
    else:
        print(f"Head: row {head.number}, {head.hash.hex()}")


def line_of(row: Row) -> str:
    """For people, who know keys by their beginning."""
    time = f"{datetime.datetime.fromtimestamp(row.time, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"
    subject = "(erased)" if row.subject is None else _KEY.sub(r"\1", row.subject)
    return f"{row.number}  {time}  {row.event:<{_EVENT}}  {subject}"


def _shown(row: Row) -> dict[str, object]:
    return {
        "number": row.number,
        "time": datetime.datetime.fromtimestamp(row.time, datetime.UTC).isoformat(),
        "event": row.event,
        "subject": row.subject,
        "hash": row.hash.hex(),
    }


def _tell_verdict(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        head = {"number": verdict.head.number, "hash": verdict.head.hash.hex()}
        print(
            json.dumps({"ok": True, "rows": verdict.rows, "erased": verdict.erased, "head": head})
        )
    else:
        print(f"{verdict.rows} rows hold; of {verdict.erased} the subject was erased.")
        print(f"Head: row {verdict.head.number}, {verdict.head.hash.hex()}")


def _read(file: Path) -> Checkpoint:
    return read_checkpoint_untrusted(file.read_text(errors="replace"))


def _write(file: Path, line: str) -> None:
    try:
        made = open_owned(file, os.O_WRONLY | os.O_EXCL, 0o666)
        with os.fdopen(made, "w") as opened:
            opened.write(line + "\n")
    except OSError as error:
        raise Fault(
            "cannot-write-file",
            f"{str(file)!r} cannot be written: {error.strerror}",
            blame=Blame.CALLER,
            hint="choose another name",
        ) from error
