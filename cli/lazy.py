"""A command group that imports a subcommand only when it is called, so that `jobmill --help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from cli.starting import importing, without


@dataclass(frozen=True)
class Lazy:
    """Where a command stands (`module:attribute`), and its line in the group's help; none: it is not for people."""

    path: str
    summary: str = ""

    def load(self) -> click.Command:
        """Import the command."""
        module, attribute = self.path.split(":")
        # For structlog, rich would be there to colour tracebacks, which ours never are: 5 MB of each process.
        with importing(), without("rich"):
            command: click.Command = getattr(import_module(module), attribute)
        return command


class LazyGroup(click.Group):
    """A group whose commands are given by place; its help imports none of them."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **details: Any) -> None:
        super().__init__(*args, **details)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if need be."""
        if cmd_name in self._lazy:
            return self._lazy[cmd_name].load()
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self._lazy.items() if lazy.summary])
