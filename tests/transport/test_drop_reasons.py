"""Every reason under which something is dropped stands in docs/transport.md."""

from __future__ import annotations

import ast
from pathlib import Path

import transport
from transport.admission import Verdict
from transport.datagrams import SEND_FAILURES
from transport.hello import _ALERTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "transport.md"


def counted() -> set[str]:
    """Literals passed to something called `count`; the fixed parts of formatted ones, too."""
    found = set()
    for path in Path(transport.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or "count" not in ast.unparse(node.func)[-5:]:
                continue
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.add(part.value)
    return found


def test_every_drop_reason_is_documented() -> None:
    table = DOCUMENT.read_text().partition("## Drop reasons")[2]
    reasons = counted() | {str(each) for each in Verdict if each is not Verdict.ACCEPT}
    reasons |= {f"handshake-{code}" for code in _ALERTS} | set(SEND_FAILURES.values())
    assert len(reasons) > 40
    assert not {each for each in reasons if f"`{each}" not in table}
