"""`jobmill jobs`: everything about jobs, over HTTP."""

from typing import Any
from uuid import UUID

import click

from cli import job_view, output
from cli.ending import show, wait_and_end
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import listed, over_http
from cli.parameters import Pair, Seconds
from cli.submit import WAIT_SECONDS, submit
from jobmill_client import acting
from jobmill_client.connection import Connection
from models.states import State

EVENT_COLUMNS = ("at", "move", "state", "attempt", "actor", "reason", "error")

job_id_argument = click.argument("job_id", metavar="ID", type=click.UUID)


@click.group(epilog=EXIT_CODES)
def jobs() -> None:
    """Submit, watch, hasten and cancel jobs."""


jobs.add_command(submit)


@jobs.command()
@job_id_argument
@over_http
def get(server: Connection, job_id: UUID, *, as_json: bool) -> None:
    """Show a job."""
    show(server.get(f"/v1/jobs/{job_id}"), as_json=as_json)


@jobs.command("list")
@click.option("--state", multiple=True, type=click.Choice([state.value for state in State]))
@click.option("--type", multiple=True, metavar="TYPE", help="May be repeated, as --state.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--unique-key", help="Only jobs with this unique_key.")
@click.option("--tag", "tags", multiple=True, type=Pair(), help="Only jobs with this tag, as customer=42.")
@listed
@over_http
def list_(
    server: Connection,
    *,
    limit: int,
    everything: bool,
    as_json: bool,
    tags: tuple[tuple[str, str], ...],
    **filters: Any,
) -> None:
    """List jobs, newest first."""
    if len(tags) > 1:
        raise click.UsageError("Jobs are listed by one tag: give --tag once.")
    params = {**filters, **{f"tag.{name}": value for name, value in tags}, "limit": limit}
    table = output.Table(*job_view.LIST_COLUMNS)
    show_list(server, "/v1/jobs", params, table, job_view.row, everything=everything, as_json=as_json)


@jobs.command()
@job_id_argument
@click.option(
    "--timeout-wait",
    "seconds",
    type=Seconds(),
    default=WAIT_SECONDS,
    show_default=True,
    help="Wait no longer; `inf` waits for ever.",
)
@over_http
def wait(server: Connection, job_id: UUID, *, seconds: float, as_json: bool) -> None:
    """Wait until a job has ended, and show it; exit code 1 unless it succeeded, 4 if it has not ended."""
    wait_and_end(server, str(job_id), seconds, as_json=as_json)


@jobs.command()
@job_id_argument
@over_http
def cancel(server: Connection, job_id: UUID, *, as_json: bool) -> None:
    """Cancel a job: at once if it waits, else as soon as its handler lets go."""
    show(acting.cancel(server, str(job_id)), as_json=as_json)


@jobs.command("run-now")
@job_id_argument
@over_http
def run_now(server: Connection, job_id: UUID, *, as_json: bool) -> None:
    """Have a job run now that waits for its time or its next attempt."""
    show(acting.run_now(server, str(job_id)), as_json=as_json)


@jobs.command()
@job_id_argument
@over_http
def explain(server: Connection, job_id: UUID, *, as_json: bool) -> None:
    """Say why a job is where it is: what keeps it from running, who runs it, or how it ended."""
    answer = server.get(f"/v1/jobs/{job_id}/explain")
    if as_json:
        output.document(answer.body)
    else:
        output.details(job_view.explanation(answer.document))


@jobs.command()
@job_id_argument
@listed
@over_http
def events(server: Connection, job_id: UUID, *, limit: int, everything: bool, as_json: bool) -> None:
    """Show what happened to a job besides the straight way, newest first."""
    table = output.Table(*EVENT_COLUMNS)
    path = f"/v1/jobs/{job_id}/events"
    show_list(server, path, {"limit": limit}, table, _event, everything=everything, as_json=as_json)


def _event(event: Any) -> output.Row:
    told = {**event, "error": job_view.error(event.get("error"))}
    return [told.get(column) for column in EVENT_COLUMNS]
