"""The table of error codes has every code that the relay can answer, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.refusals import error_frame
from relay.store.postgres.failures import _FAULTS, UNAVAILABLE
from schemas.error_codes import ERROR_CODES, GROUPS
from schemas.errors import Blame, Fault

ROOT = Path(__file__).parents[2]
RAISED = ("Refused", "TryLater", "Malformed", "ErrorFrame")  # what else there is, stays inside

# Whose faults end a command, or the start of the relay, and answer no call
NOT_ANSWERED = {
    "relay/accounts_command.py", "relay/store/moved.py",
    "relay/audit.py", "relay/audit_command.py", "relay/config.py", "relay/http.py",
    "relay/invite_command.py", "relay/keys.py", "relay/web_certificate.py",
    "relay/store/postgres/inspection.py", "relay/store/postgres/schema.py",
    "relay/store/postgres/url.py", "relay/store/sqlite/audit.py", "relay/store/sqlite/backup.py",
}  # fmt: skip
NOT_ANSWERED_FOLDERS = ("relay/capacity/", "relay/moving/", "relay/stats/")
COMMANDS_ONLY = {
    "no-file", "database-older", "database-newer", "database-too-old", "bad-database-url",
    "wrong-database-key", "no-driver", "not-sqlite",
}  # fmt: skip
# What reads strangers' bytes for the relay, outside of its folder; only its Malformed counts.
READERS = (
    "identity/bundle.py", "identity/credential.py", "identity/relay_statement.py",
    "identity/signing.py", "discovery/record.py", "schemas/accounts.py",
)  # fmt: skip
NOT_BY_THE_RELAY = {"bundle-not-of-card"}  # a reader of cards raises it
WRITTEN_OTHERWISE = {  # codes that are put together, or come from a table
    "malformed-parcel", "malformed-relay-statement", "oversized-bundle",
    "oversized-endpoint-record", "oversized-relay-statement", "unimplemented",
}  # fmt: skip


def codes_in(file: Path, kinds: tuple[str, ...]) -> Iterator[str]:
    """The first argument of every call of one of these names, where it is a text."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            choices = (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,)
            if name in kinds:
                yield from (
                    each.value
                    for each in choices
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )


def answered() -> dict[str, str]:
    """By code, a file that raises it."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / "relay").rglob("*.py")):
        name = str(file.relative_to(ROOT))
        if name not in NOT_ANSWERED and not name.startswith(NOT_ANSWERED_FOLDERS):
            found |= dict.fromkeys(codes_in(file, RAISED), name)
    for name in READERS:
        found |= dict.fromkeys(codes_in(ROOT / name, ("Malformed",)), name)
    return {
        code: name for code, name in found.items() if code not in COMMANDS_ONLY | NOT_BY_THE_RELAY
    }


def test_every_code_that_the_relay_raises_stands_in_the_table() -> None:
    missing = {code: file for code, file in answered().items() if code not in ERROR_CODES}
    assert missing == {}


def test_the_table_has_no_code_that_nobody_raises() -> None:
    assert set(ERROR_CODES) - set(answered()) - WRITTEN_OTHERWISE == set()


def environment() -> set[str]:
    """The codes of what the machine and the database do to the relay."""
    files = [
        *sorted((ROOT / "relay/store").rglob("*.py")),
        *sorted((ROOT / "storage").glob("*.py")),
    ]
    found = {code for file in files for code in codes_in(file, ("Fault", "_fault"))}
    return found | {UNAVAILABLE} | {code for code, _, _ in _FAULTS.values()}


def test_what_befalls_the_machine_is_found() -> None:
    assert environment() >= {
        "disk-full", "disk-error", "database-replaced", "wrong-database-password", "not-durable",
        "store-closed", "store-unavailable",
    }  # fmt: skip


@pytest.mark.parametrize("code", sorted(environment() | {"of-a-later-version"}))
def test_what_befalls_the_machine_is_told_in_general_words(code: str) -> None:
    secret = "role 'ops' at db.example, pg_hba.conf"
    for blame in Blame:
        frame = error_frame(Fault(code, secret, blame=blame, hint=secret))
        assert frame.code == (code if code == "disk-full" else "store-unavailable")
        assert frame.code in ERROR_CODES
        assert secret not in frame.message + frame.hint
        assert frame.message
        assert frame.hint
        assert frame.retry_after_ms > 0


def test_files_that_are_left_out_are_there() -> None:
    for name in [*NOT_ANSWERED, *NOT_ANSWERED_FOLDERS, *READERS]:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("code", ERROR_CODES)
def test_a_code_is_said_once_with_what_to_do(code: str) -> None:
    entry = ERROR_CODES[code]
    assert entry.meaning
    assert entry.action
    assert sum(each.code == code for group in GROUPS.values() for each in group) == 1


def test_codes_of_the_seed_system_are_told_with_their_numbers() -> None:
    told = (ROOT / "relay/channel_methods.py").read_text()
    numbered = [each for each in ERROR_CODES.values() if each.seed]
    assert len(numbered) == 2
    assert all(f'"{each.seed}: ' in told for each in numbered)
