"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.access import DEFAULT_URL

Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print the document as JSON, nothing else.")


def over_http(command: Command) -> Command:
    """Give a command `server`, to be closed when it ends, and the options --url and --json."""

    @click.option(
        "--url", envvar="JOBMILL_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="The server."
    )
    @json_option
    @functools.wraps(command)
    def with_server(*args: Any, url: str, **options: Any) -> Any:
        from cli.connecting import connected

        with connected(url) as server:
            return command(server, *args, **options)

    return with_server


def listed(command: Command) -> Command:
    """Give a command the options of a list: --limit and --all."""
    with_all = click.option("--all", "everything", is_flag=True, help="Every page; with --json, one a line.")(command)
    return click.option(
        "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="The size of a page."
    )(with_all)
