"""The references of commands are what the programs say; that of settings is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Final

import pytest

from relay.config import SETTINGS
from tests.docs.pages import DOCS

_ROW: Final = re.compile(r"^\| `(\w+)` \| (?:`([^`]*)`|(.*?)) \|", re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "of"),
    [("commands.md", []), ("operations/commands.md", ["relay"])],
    ids=["node", "relay"],
)
def test_the_reference_is_up_to_date(page: str, of: list[str]) -> None:
    made = subprocess.run(
        [sys.executable, "docs/commands.py", *of],
        cwd=DOCS.parent,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert (DOCS / page).read_text() == made, (
        f"run: python docs/commands.py {' '.join(of)} > docs/{page}"
    )


def test_every_setting_of_a_relay_is_on_its_page() -> None:
    page = (DOCS / "operations" / "settings.md").read_text()
    told = {name: quoted or plain for name, quoted, plain in _ROW.findall(page)}
    assert len(_ROW.findall(page)) == len(told), "one twice"
    assert set(told) == set(SETTINGS)
    for name, setting in SETTINGS.items():
        default = setting.default()
        if name == "data_dir":
            shown = "the platform's"
        elif default is None or default == ():
            shown = "none"
        else:
            shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert told[name] == shown, name
