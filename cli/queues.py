"""`jobmill queues`: what waits where, over HTTP; pause, resume and limit it."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from cli import output
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import listed, over_http
from cli.parameters import AtMost
from cli.queues_migrate import migrate
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection

PATH = "/v1/queues"
COUNTS = ("queued", "dispatched", "running", "dead")
COLUMNS = ("name", "paused", *COUNTS, "oldest_waiting", "in/s", "out/s", "max_running", "max/s", "workers")

names = click.argument("names", metavar="NAME...", nargs=-1, required=True)


@click.group(epilog=EXIT_CODES)
def queues() -> None:
    """See what waits where; pause, resume and limit it."""


queues.add_command(migrate)


@queues.command("list")
@listed
@over_http
def list_(server: Connection, *, limit: int, everything: bool, as_json: bool) -> None:
    """List queues by name: what is in each, what comes and goes, limits, live workers."""
    show_list(server, PATH, {"limit": limit}, output.Table(*COLUMNS), _row, everything=everything, as_json=as_json)


@queues.command()
@names
@over_http
def pause(server: Connection, names: Sequence[str], *, as_json: bool) -> None:
    """Let no job of these queues begin until they are resumed; those that run go on."""
    for name in names:
        _tell(server.post(f"{_path(name)}/pause", repeatable=True), as_json=as_json)


@queues.command()
@names
@over_http
def resume(server: Connection, names: Sequence[str], *, as_json: bool) -> None:
    """Let the jobs of these queues begin again."""
    for name in names:
        _tell(server.post(f"{_path(name)}/resume", repeatable=True), as_json=as_json)


@queues.command()
@click.argument("name")
@click.option("--max-running", type=AtMost(whole=True), metavar="N|none", help="So many run at once.")
@click.option("--max-per-second", type=AtMost(), metavar="N|none", help="So many begin in a second; 0.5 is one in two.")
@over_http
def limit(server: Connection, name: str, *, as_json: bool, **limits: float | str | None) -> None:
    """Limit a queue, with any number of workers; `none` takes a limit away, what is not given stays."""
    told = {limit: None if most == AtMost.NONE else most for limit, most in limits.items() if most is not None}
    if not told:
        raise click.UsageError("Give --max-running or --max-per-second.")
    _tell(server.patch(_path(name), told), as_json=as_json)


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def _tell(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        output.document(answer.body)
        return
    found = answer.document
    limits = [f"{found[name]} {words}" for name, words in _LIMITS.items() if found.get(name) is not None]
    state = "is paused" if found.get("paused") else "is not paused"
    output.note(f"{found.get('name')} {state}; {', '.join(limits) or 'no limits'}.")


_LIMITS = {"max_running": "running at most", "max_per_second": "a second at most"}


def _row(found: Mapping[str, Any]) -> output.Row:
    waited, counts = found.get("oldest_waiting_seconds"), found.get("counts", {})
    told = {
        **found,
        **counts,
        "paused": "paused" if found.get("paused") else None,
        "oldest_waiting": None if waited is None else f"{waited:.1f} s",
        "in/s": f"{found.get('in_per_second', 0):.1f}",
        "out/s": f"{found.get('out_per_second', 0):.1f}",
        "max/s": found.get("max_per_second"),
    }
    return [told.get(column) for column in COLUMNS]
