"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any

import click

from cli.access import DEFAULT_URL
from cli.parameters import DueAt, Id

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


_DEAD_FILTERS = (
    click.option("--type", metavar="TYPE", help="Only those of this type."),
    click.option("--queue", help="Only those of this queue."),
    click.option("--error", help="Only those whose error is of this class, as the column names it."),
    click.option("--group", help="Only those of this group; see: jobmill dead groups"),
    click.option("--endpoint", "endpoint_id", type=Id(), help="Only deliveries to this webhook endpoint."),
    click.option("--died-after", type=DueAt(), help="From that time on, as 2027-01-31T12:00:00Z."),
    click.option("--died-before", type=DueAt(), help="Before that time."),
)
DEAD_FILTERS = ("type", "queue", "error", "group", "endpoint_id", "died_after", "died_before")


def dead_filters(command: Command) -> Command:
    """Give a command the options that say which dead letters are meant."""
    for option in reversed(_DEAD_FILTERS):
        command = option(command)
    return command
