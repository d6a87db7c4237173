"""What is shown of others' text: joiners where they belong, nothing else invisible."""

from __future__ import annotations

import json
import math

import pytest

from node.api.errors import answer_of, fault_of, status_of
from node.cli.output import Output, clean
from schemas.errors import Blame, Fault

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ASTRONAUT = "\U0001f469\U0001f3fd\u200d\U0001f680"
HEART = "\u2764\ufe0f\u200d\U0001f525"
SHAKING = "\U0001f642\u200d\u2194\ufe0f"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
HINDI = "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937"


@pytest.mark.parametrize("text", [FAMILY, ASTRONAUT, HEART, SHAKING, PERSIAN, HINDI])
def test_joiners_stay_where_a_script_or_an_emoji_needs_them(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Bo\u200db", "Bo\\x200db"),  # another name that would look like Bob
        ("Bo\u200cb", "Bo\\x200cb"),
        ("\u200dBob\u200d", "\\x200dBob\\x200d"),
        (f"{FAMILY[0]}\u200cx", f"{FAMILY[0]}\\x200cx"),
        (f"{FAMILY[0]}\u200d\u200d{FAMILY[0]}", f"{FAMILY[0]}\\x200d\\x200d{FAMILY[0]}"),
        ("a\u202eb\u2066c\u200fd\u200be", "a\\x202eb\\x2066c\\x200fd\\x200be"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\u043f\u200d\u0440", "\u043f\\x200d\u0440"),
    ],
)
def test_what_is_invisible_elsewhere_is_shown(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("code", "hint", "wait_s", "shown"),
    [
        ("try-later", "it goes on by itself, more slowly", 59.2, "try again in 60 s"),
        ("relay-full", "another relay may have room", 600.0,
         "another relay may have room; try again in 600 s"),
        ("no-account", "register it first", 0.0, "register it first"),
    ],
)  # fmt: skip
def test_when_to_try_again_is_told(
    capsys: pytest.CaptureFixture[str], code: str, hint: str, wait_s: float, shown: str
) -> None:
    """Nothing goes on by itself once a command has ended."""
    fault = Fault(code, "no", blame=Blame.PEER, hint=hint)
    fault.retry_after_s = wait_s
    fault = fault_of(status_of(fault), answer_of(fault))  # as it comes from the node
    Output(as_json=False).error(fault)
    assert capsys.readouterr().err.splitlines()[-1] == f"hint: {shown}"
    Output(as_json=True).error(fault)
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["hint"] == shown
    assert error.get("retry_after_s") == (math.ceil(wait_s) or None)
