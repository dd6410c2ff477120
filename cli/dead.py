"""`jobmill dead`: what failed for good, over HTTP: find it, see why, mend it, replay or discard it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO
from uuid import UUID

import click

from cli import job_view, output
from cli.arguments import args_from
from cli.asking import ask, each, yes_option
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import dead_filters, listed, over_http
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection

PATH = "/v1/dead-letters"
LIST_COLUMNS = ("id", "type", "queue", "finished_at", "attempt", "group", "error")
GROUP_COLUMNS = ("group", "count", "error_type", "place", "first_seen", "last_seen", "message")

letter = click.argument("job_id", metavar="ID", type=click.UUID)
letters = click.argument("job_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)


@click.group(epilog=EXIT_CODES)
def dead() -> None:
    """See what failed for good and why; mend, replay or discard it."""


@dead.command("list")
@dead_filters
@click.option("--oldest", "order", flag_value="oldest", help="The oldest first.")
@listed
@over_http
def list_(server: Connection, *, limit: int, everything: bool, as_json: bool, **filters: Any) -> None:
    """List dead letters, those that died last first."""
    table = output.Table(*LIST_COLUMNS)
    show_list(server, PATH, {**filters, "limit": limit}, table, _row, everything=everything, as_json=as_json)


@dead.command()
@listed
@over_http
def groups(server: Connection, *, limit: int, everything: bool, as_json: bool) -> None:
    """List what they died of, the groups that appeared last first."""
    table = output.Table(*GROUP_COLUMNS)
    show_list(server, f"{PATH}/groups", {"limit": limit}, table, _group, everything=everything, as_json=as_json)


@dead.command()
@letter
@over_http
def show(server: Connection, job_id: UUID, *, as_json: bool) -> None:
    """Show a dead letter, with the error and the trace of each of its attempts."""
    answer = server.get(f"{PATH}/{job_id}")
    if as_json:
        output.document(answer.body)
    else:
        output.details(_details(answer.document))


@dead.command()
@letter
@click.option("--args", "whole", metavar="JSON", help="All arguments anew, as a JSON object.")
@click.option("--args-file", type=click.File("rb"), metavar="F", help="The same from a file; - is standard input.")
@click.option("--arg", "values", multiple=True, metavar="NAME=VALUE", help="One of them: JSON, or else a string.")
@over_http
def edit(
    server: Connection,
    job_id: UUID,
    *,
    whole: str | None,
    args_file: BinaryIO | None,
    values: tuple[str, ...],
    as_json: bool,
) -> None:
    """Give a dead letter other arguments: all of them, or with --arg alone some beside those it has."""
    if whole is None and args_file is None and not values:
        raise click.UsageError("Give --args, --args-file or --arg.")
    args = args_from(whole, args_file.read() if args_file else None, values, (), str)
    if whole is None and args_file is None:
        args = {**server.get(f"{PATH}/{job_id}").document["args"], **args}
    answer = server.patch(f"{PATH}/{job_id}", {"args": args})
    if as_json:
        output.document(answer.body)
    else:
        output.details(job_view.details(answer.document))


@dead.command()
@letters
@yes_option
@over_http
def replay(server: Connection, job_ids: Sequence[UUID], *, yes: bool, as_json: bool) -> None:
    """Queue dead letters again, with fresh attempts."""
    wanted = list(dict.fromkeys(job_ids))
    if len(wanted) > 1:
        ask(f"This replays {len(wanted)} dead letters.", yes=yes)
    each(wanted, lambda job_id: _act(server, job_id, "replay"), as_json=as_json)


@dead.command()
@letters
@yes_option
@over_http
def discard(server: Connection, job_ids: Sequence[UUID], *, yes: bool, as_json: bool) -> None:
    """Give dead letters up for good."""
    wanted = list(dict.fromkeys(job_ids))
    ask(f"This discards {len(wanted)} dead letter{'s' if len(wanted) > 1 else ''} for good.", yes=yes)
    each(wanted, lambda job_id: _act(server, job_id, "discard"), as_json=as_json)


def _act(server: Connection, job_id: UUID, what: str) -> Answer:
    return server.post(f"{PATH}/{job_id}/{what}", repeatable=False)


def _details(found: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from job_view.details(found)
    yield "group", found.get("group")
    yield "place", found.get("place")
    for attempt in found.get("attempts", ()):
        error = attempt.get("error") or {}
        told = f"{attempt.get('at')} {attempt.get('move')}: {job_view.error(error)}"
        yield f"attempt {attempt.get('attempt')}", told
        yield "", output.Lines(error["trace"]) if error.get("trace") else None


def _row(found: Mapping[str, Any]) -> output.Row:
    told = {**found, "attempt": job_view.attempt(found), "error": job_view.error(found.get("error"))}
    return [told.get(column) for column in LIST_COLUMNS]


def _group(found: Mapping[str, Any]) -> output.Row:
    return [found.get(column) for column in GROUP_COLUMNS]
