"""`quicnprotochat-relay completion`: commands and options completed by the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "quicnprotochat-relay"
_VARIABLE = "_QUICNPROTOCHAT_RELAY_COMPLETE"  # click's own name for this program's


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands and options.

    \b
    bash: add `eval "$(quicnprotochat-relay completion bash)"` to ~/.bashrc
    zsh:  add `eval "$(quicnprotochat-relay completion zsh)"` to ~/.zshrc
    fish: add `quicnprotochat-relay completion fish | source` to ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(context.find_root().command, {}, PROGRAM, _VARIABLE).source())
