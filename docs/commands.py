"""Writes the references of the two programs from their commands.

python docs/commands.py > docs/commands.md
python docs/commands.py relay > docs/operations/commands.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from inspect import cleandoc

import click

from node.cli.command import SECTIONS, ExampleCommand, common_options
from node.cli.main import cli
from relay.cli import with_settings
from relay.main import main as relay

_INTRODUCTION = """\
# Commands of `quicnprotochat`

Made from the program by `python docs/commands.py > docs/commands.md`; a test holds it up to date.

KEY is a person's identity key, GROUP and MESSAGE are ids; a unique prefix of at least 6 digits, a
name or a card is taken as well. Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 timed
out; 4 no network path. A setting comes from its flag, else the environment
(`QUICNPROTOCHAT_<NAME>`), else `config.toml` in the home, else its default.
"""
_RELAY = """\
# Commands of `quicnprotochat-relay`

Made from the program by `python docs/commands.py relay > docs/operations/commands.md`; a test
holds it up to date. Exit codes: 0 done; 1 refused or failed; 2 wrong usage. A setting comes from
its flag, else the environment (`QUICNPROTOCHAT_<NAME>`), else the file that `--config` names, else
its default: [settings.md](settings.md).
"""
_SEED = """\
## The seed system's command line
Still understood by every command, beside what is above:

| then | now |
|---|---|
| `--state FILE` | a home in the folder `FILE.home` beside that file; `--home` wins over it |
| `--server ADDR`, `--ds-server ADDR`, `QUICNPROTOCHAT_SERVER` | `--relay HOST:PORT#DEVICE_KEY` |
| `--group-id ID` | the GROUP (or NAME) argument |
| `--peer-key KEY` on `invite`, `send`, `chat` | the person |
| `register-state` | `init`, with upload to the relays |
"""


def lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield "## Options of every command\n"
    yield from _options(common_options())
    for section in SECTIONS:
        yield f"\n## {section}\n"
        for name, command in sorted(cli.commands.items()):
            if getattr(command, "section", "") == section and not command.hidden:
                yield from _command(name, command, common_options())
    yield _SEED.rstrip("\n")


def relay_lines() -> Iterator[str]:
    yield _RELAY
    yield "## Options of every command\n"
    common = click.command()(with_settings(lambda: None)).params
    yield from _options(common)
    yield "## Commands\n"
    for name, command in sorted(relay.commands.items()):
        if not command.hidden:
            yield from _command(name, command, common)


def _command(name: str, command: click.Command, common: Sequence[click.Parameter]) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"### `{name} {pieces.replace('[OPTIONS] ', '').replace('[OPTIONS]', '')}".rstrip() + "`"
    about, *blocks = cleandoc(command.help or "").split("\b\n")
    yield about.rstrip() + "\n"
    for block in blocks:
        rows = block.splitlines()
        if rows[0].startswith("Example"):
            rows = [row.strip() for row in rows[1:]]
        yield "    " + "\n    ".join(rows) + "\n"
    elsewhere = {each.name for each in common}
    yield from _options([each for each in command.params if each.name not in elsewhere])
    if isinstance(command, ExampleCommand):
        yield "\n".join(f"    {line}" for line in command.example.splitlines()) + "\n"
    if isinstance(command, click.Group):
        for below, each in sorted(command.commands.items()):
            yield from _command(f"{name} {below}", each, common)


def _options(parameters: Sequence[click.Parameter]) -> Iterator[str]:
    shown = [each for each in parameters if isinstance(each, click.Option) and not each.hidden]
    for option in shown:
        record = option.get_help_record(click.Context(click.Command("x")))
        if record is not None:
            yield f"- `{record[0]}` — {record[1]}"
    if shown:
        yield ""


if __name__ == "__main__":
    print("\n".join(relay_lines() if sys.argv[1:] == ["relay"] else lines()))
