"""How a command is declared: its section, an example, and the options that all have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from node.cli.state import State

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS: Final = ("Your node", "People", "Groups", "Messages", "Network")
_YEAR_S: Final = 366 * 86_400
_NO_VALUE: Final = re.compile(r"--[a-z-]+=")
_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that puts an option's value, when one was given, into the State."""

    def keep(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(state_of(ctx), name, value)

    return keep


def _json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    state_of(ctx).json |= value


def _verbose(ctx: click.Context, _: click.Parameter, value: int) -> None:
    state_of(ctx).verbose += value


def _paths(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completed by the shell itself; `kind` is "dir" or "file"."""
    return lambda ctx, parameter, begun: [CompletionItem(begun, type=kind)]


def state_of(ctx: click.Context) -> State:
    state = ctx.find_root().obj
    assert isinstance(state, State)
    return state


def common_options() -> list[click.Parameter]:
    """Accepted before and after a command's name."""
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            expose_value=False,
            callback=_keep("home_flag"),
            shell_complete=_paths("dir"),
            help="The folder that is the whole node. [env: QUICNPROTOCHAT_HOME]",
        ),
        click.Option(
            ["--passphrase-file"],
            metavar="FILE",
            expose_value=False,
            callback=_keep("passphrase_flag"),
            shell_complete=_paths("file"),
            help="Opens an encrypted home. [env: QUICNPROTOCHAT_PASSPHRASE_FILE; default: asked]",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_json,
            help="JSON on standard output, one object a line.",
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_verbose,
            help="Log more, to standard error; twice for everything.",
        ),
        click.Option(
            ["--log-level"],
            type=click.Choice(["debug", "info", "warning", "error"]),
            expose_value=False,
            callback=_keep("log_level_flag"),
            help="What to log, to standard error. [env: QUICNPROTOCHAT_LOG_LEVEL]",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(["text", "json"]),
            expose_value=False,
            callback=_keep("log_format_flag"),
            help="How to log. [env: QUICNPROTOCHAT_LOG_FORMAT; default: text]",
        ),
        # Of the seed system's command line:
        click.Option(
            ["--state"],
            metavar="FILE",
            expose_value=False,
            hidden=True,
            callback=_keep("state_flag"),
        ),
        click.Option(
            ["--server", "--ds-server"],
            metavar="ADDR",
            multiple=True,
            expose_value=False,
            hidden=True,
            callback=_keep("relay_flags"),
        ),
    ]


class _Seconds(click.ParamType[float]):
    """A time to wait: a finite number of seconds, at most a year."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _YEAR_S:  # not true of nan, either
            self.fail(f"{value!r} is not a number of seconds from 0 to {_YEAR_S}", param, ctx)
        return seconds


SECONDS: Final = _Seconds()


def seed_words(args: list[str], parameters: list[str]) -> list[str]:
    """The seed system's `--group-id ID` and `--peer-key KEY` as the arguments they are now."""
    first: list[str] = []
    last: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        group = flag == "--group-id" and bool({"group", "target", "name"} & set(parameters))
        if group or (flag == "--peer-key" and "peer_key" not in parameters):
            given = value if equals else next(words, None)
            if given is None:
                raise click.UsageError(f"Option {flag!r} requires an argument.")
            (first if group else last).append(given)
        elif word == "--":
            rest += [word, *words]
        else:
            rest.append(word)
    return [*first, *last, *rest] if first or last else rest


class ExampleCommand(click.Command):
    """A command with a section, an example in its help, and the common options."""

    def __init__(self, *args: Any, section: str = "", example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.example = example
        self.params += common_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, seed_words(args, [each.name or "" for each in self.params]))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class ExampleGroup(ExampleCommand, click.Group):
    """A command with commands under it."""

    command_class = ExampleCommand


class SectionedGroup(click.Group):
    """The program: its commands listed by section."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(not word or _NO_VALUE.fullmatch(word) for word in args):
            raise click.UsageError("an argument is empty: is a shell variable unset?", ctx)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in SECTIONS:
            listed = [
                (name, command.get_short_help_str(64))
                for name, command in self.commands.items()
                if getattr(command, "section", None) == section and not command.hidden
            ]
            if listed:
                with formatter.section(section):
                    formatter.write_dl(listed)


class Commands:
    """Collects the commands of one module, for `main` to put together."""

    def __init__(self, section: str) -> None:
        assert section in SECTIONS
        self.section = section
        self.commands: list[click.Command] = []

    def add(
        self, name: str, *, example: str, hidden: bool = False
    ) -> Callable[[Callable[..., None]], click.Command]:
        """The function under it becomes the command `name`; its docstring is the help."""

        def declare(function: Callable[..., None]) -> click.Command:
            command = click.command(
                name,
                cls=ExampleCommand,
                section=self.section,
                example=example,
                hidden=hidden,
                context_settings=_CONTEXT,
            )(click.pass_obj(function))
            self.commands.append(command)
            return command

        return declare

    def add_group(
        self, name: str, *, example: str
    ) -> Callable[[Callable[..., None]], ExampleGroup]:
        """A command that also has commands under it."""

        def declare(function: Callable[..., None]) -> ExampleGroup:
            group = click.group(
                name,
                cls=ExampleGroup,
                section=self.section,
                example=example,
                invoke_without_command=True,
                context_settings=_CONTEXT,
            )(click.pass_context(function))
            self.commands.append(group)
            return group

        return declare


relay_option = click.option(
    "--relay",
    "relays",
    multiple=True,
    metavar="RELAY",
    help="A relay, HOST:PORT#DEVICE_KEY; repeat for more. Remembered. [env: QUICNPROTOCHAT_RELAY]",
)
