"""Every command line that the documentation shows is one that the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from node.cli.main import cli
from relay.main import main as relay
from simulation.main import main as simulate
from tests.docs.pages import DOCS

PROGRAMS: Final = {
    "quicnprotochat": cli,
    "quicnprotochat-relay": relay,
    "quicnprotochat-simulate": simulate,
}
_SHOWN: Final = re.compile(
    r"^(?:    |\$ )(?:\S*/)?(quicnprotochat(?:-relay|-simulate)? .*)$", re.MULTILINE
)
PAGES: Final = [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]


def lines_of(page: Path) -> list[str]:
    return _SHOWN.findall(page.read_text())


def check(line: str) -> None:
    """Raises click.UsageError for a command or an option that there is not."""
    words = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(words) if word in ("|", "&", ";", ">", "2>>")]
    program, *arguments = words[: min(ends, default=len(words))]
    command: click.Command = PROGRAMS[program]
    context = click.Context(command, info_name=program)
    while True:
        _, arguments, _ = command.make_parser(context).parse_args(list(arguments))
        if not isinstance(command, click.Group) or not arguments:
            return
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command, context = found, click.Context(found, context, info_name=name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_every_command_that_is_shown_exists(page: Path) -> None:
    for line in lines_of(page):
        try:
            check(line)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_there_are_such_lines_and_a_wrong_one_is_told() -> None:
    assert len(lines_of(DOCS / "getting-started.md")) > 20
    for wrong in ("quicnprotochat sned tea", "quicnprotochat send tea --message hi"):
        with pytest.raises(click.UsageError):
            check(wrong)
