"""Shell completion: the scripts, and what is completed from the node that runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from node.cli.command import Commands, state_of
from node.cli.state import State

if TYPE_CHECKING:
    from node.api.client import Client

commands = Commands("Your node")

ANSWER_S: Final = 0.5  # a completion that takes longer is worse than none
_PROGRAM: Final = "quicnprotochat"
_VARIABLE: Final = "_QUICNPROTOCHAT_COMPLETE"
_SPECIAL: Final = re.compile(r"[^\w@%+=:,./-]", re.ASCII)


@commands.add("completion", example='eval "$(quicnprotochat completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, state: State, shell: str) -> None:
    """Print the script that lets SHELL complete commands, groups and names.

    \b
    bash: add `eval "$(quicnprotochat completion bash)"` to ~/.bashrc
    zsh:  add `eval "$(quicnprotochat completion zsh)"` to ~/.zshrc
    fish: quicnprotochat completion fish > ~/.config/fish/completions/quicnprotochat.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    maker = kind(root, {}, _PROGRAM, _VARIABLE)
    script = maker.source_template % maker.source_vars()
    script = script.replace("read type", "read -r type")  # a backslash stays one
    state.out.result({"shell": shell, "script": script}, script)


def groups(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of groups; ids of those that have none."""
    return matching(begun, ask(ctx, _groups))


def people(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names in the address book."""
    return matching(begun, ask(ctx, _people))


def either(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    return matching(begun, [*ask(ctx, _groups), *ask(ctx, _people)])


def _groups(client: Client) -> Iterable[str]:
    from node.api import operations as op
    from node.api.shapes import Nothing

    found = client.call(op.GROUPS, Nothing(), timeout_s=ANSWER_S)
    return (each.name or each.group[:12] for each in found)


def _people(client: Client) -> Iterable[str]:
    from node.api import operations as op
    from node.api.shapes import Nothing

    return (each.name for each in client.call(op.CONTACTS, Nothing(), timeout_s=ANSWER_S))


def ask(ctx: click.Context, what: Any) -> list[str]:
    """Nothing when no node runs, or when it is slow: a completion tells no errors."""
    from node.api.client import Client
    from schemas.errors import Fault

    try:
        return list(what(Client(state_of(ctx).home)))
    except (Fault, OSError):
        return []


def matching(begun: str, names: Iterable[str]) -> list[CompletionItem]:
    # The protocol is line by line: a name with a line break in it cannot be told.
    fitting = sorted({name for name in names if name.startswith(begun) and name.isprintable()})
    if os.environ.get(_VARIABLE) == "bash_complete":  # the other shells quote by themselves
        fitting = [_SPECIAL.sub(r"\\\g<0>", name) for name in fitting]
    return [CompletionItem(name) for name in fitting]
