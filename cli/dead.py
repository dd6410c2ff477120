"""`jobmill dead`: what failed for good, over HTTP: find it, see why, mend it, replay or discard it."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO
from uuid import UUID

import click

from cli import job_view, output
from cli.arguments import args_from
from cli.failures import EXIT_CODES, Refused
from cli.lists import show_list
from cli.options import listed, over_http
from cli.parameters import DueAt
from cli.problems import describe
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection
from jobmill_client.errors import ApiError, ServerError

PATH = "/v1/dead-letters"
LIST_COLUMNS = ("id", "type", "queue", "finished_at", "attempt", "group", "error")
GROUP_COLUMNS = ("group", "count", "error_type", "place", "first_seen", "last_seen", "message")

letter = click.argument("job_id", metavar="ID", type=click.UUID)
letters = click.argument("job_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(epilog=EXIT_CODES)
def dead() -> None:
    """See what failed for good and why; mend, replay or discard it."""


@dead.command("list")
@click.option("--type", metavar="TYPE", help="Only those of this type.")
@click.option("--queue", help="Only those of this queue.")
@click.option("--error", help="Only those whose error is of this class, as the column names it.")
@click.option("--group", help="Only those of this group; see: jobmill dead groups")
@click.option("--died-after", type=DueAt(), help="From that time on, as 2027-01-31T12:00:00Z.")
@click.option("--died-before", type=DueAt(), help="Before that time.")
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
        _ask(f"This replays {len(wanted)} dead letters.", yes=yes)
    _each(wanted, lambda job_id: _act(server, job_id, "replay"), as_json=as_json)


@dead.command()
@letters
@yes_option
@over_http
def discard(server: Connection, job_ids: Sequence[UUID], *, yes: bool, as_json: bool) -> None:
    """Give dead letters up for good."""
    wanted = list(dict.fromkeys(job_ids))
    _ask(f"This discards {len(wanted)} dead letter{'s' if len(wanted) > 1 else ''} for good.", yes=yes)
    _each(wanted, lambda job_id: _act(server, job_id, "discard"), as_json=as_json)


def _ask(what: str, *, yes: bool) -> None:
    """Say what will be done, and go on if that is right. Raises Refused."""
    if yes:
        return
    if not _is_attended():
        raise Refused(f"{what} Nobody is here to be asked: add --yes.")
    if not click.confirm(f"{what} Go on?", err=True):
        raise Refused("Nothing was done.")


def _is_attended() -> bool:
    return sys.stdin.isatty()


def _act(server: Connection, job_id: UUID, what: str) -> Answer:
    return server.post(f"{PATH}/{job_id}/{what}", repeatable=False)


def _each(job_ids: Sequence[UUID], act: Callable[[UUID], Answer], *, as_json: bool) -> None:
    """Act on each, whatever became of the one before. Raises Refused at the end if one was refused."""
    refused = 0
    for job_id in job_ids:
        try:
            answer = act(job_id)
        except ServerError:
            raise
        except ApiError as error:
            refused += 1
            output.note(f"{job_id} is left as it is:")
            for line in describe(error).splitlines():
                output.note(f"  {line}")
        else:
            if as_json:
                output.document(answer.body)
            else:
                output.note(f"{job_id} is {answer.document.get('state')}.")
    if refused:
        raise Refused(f"{refused} of {len(job_ids)} were left as they are.")


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
