"""`jobmill jobs submit`: hand in a job, and wait for it if asked to."""

import uuid
from collections.abc import Mapping
from typing import Any, BinaryIO

import click

from cli import output
from cli.arguments import args_from, text_property
from cli.ending import show, wait_and_end
from cli.failures import EXIT_CODES, Unreachable
from cli.options import over_http
from cli.parameters import DueAt, Header, Pair, Seconds, TypeName
from cli.problems import failure
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection
from jobmill_client.errors import ConnectionFailed, ServerError

WAIT_SECONDS = 3600.0


@click.command(epilog=EXIT_CODES)
@click.argument("job_type", metavar="TYPE", type=TypeName())
@click.option("--args", "whole", metavar="JSON", help="All arguments as a JSON object.")
@click.option("--args-file", type=click.File("rb"), metavar="F", help="The same from a file; - is standard input.")
@click.option("--arg", "values", multiple=True, metavar="NAME=VALUE", help="One argument: JSON, or else a string.")
@click.option(
    "--arg-file",
    "files",
    multiple=True,
    metavar="[NAME=]PATH",
    help="A file's text as one argument; without NAME: the type's content argument, or its only string.",
)
@click.option("--queue", help="Default: the type's.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher runs first; default 0.")
@click.option("--delay", "delay_seconds", type=Seconds(), help="Not before then.")
@click.option("--due-at", type=DueAt(), help="Not before that time, as 2027-01-31T12:00:00Z.")
@click.option("--max-attempts", type=click.IntRange(min=1), help="Default: the type's.")
@click.option("--timeout", "timeout_seconds", type=click.IntRange(min=1), metavar="SECONDS", help="For each attempt.")
@click.option("--unique-key", help="Refuse it while another unfinished job of the type has this key.")
@click.option("--tag", "tags", multiple=True, type=Pair(), help="May be repeated.")
@click.option("--webhook", metavar="URL", help="Call it when the job has ended; see: jobmill webhooks rotate-secret")
@click.option(
    "--webhook-event", "events", multiple=True, metavar="EVENT", help="Only then, as job.dead; may be repeated."
)
@click.option(
    "--idempotency-key", type=Header(), help="Default: a fresh one, so that a lost answer makes no second job."
)
@click.option("--wait", "waits", is_flag=True, help="Wait until it has ended.")
@click.option("--timeout-wait", type=Seconds(), help=f"With --wait; default {WAIT_SECONDS:g}.")
@over_http
def submit(
    server: Connection,
    *,
    job_type: str,
    idempotency_key: str | None,
    waits: bool,
    timeout_wait: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit a job of TYPE (see: jobmill job-types list)."""
    if timeout_wait is not None and not waits:
        raise click.UsageError("--timeout-wait is for --wait.")
    request = _request(server, job_type, **options)
    answer = _submit(server, request, idempotency_key or str(uuid.uuid4()))
    if not waits:
        show(answer, as_json=as_json)
        return
    job_id = str(answer.document.get("id"))
    output.note(f"Submitted {job_id}")
    wait_and_end(server, job_id, WAIT_SECONDS if timeout_wait is None else timeout_wait, as_json=as_json)


def _request(
    server: Connection,
    job_type: str,
    *,
    whole: str | None,
    args_file: BinaryIO | None,
    values: tuple[str, ...],
    files: tuple[str, ...],
    tags: tuple[tuple[str, str], ...],
    **members: Any,
) -> dict[str, Any]:
    if members["delay_seconds"] is not None and members["due_at"] is not None:
        raise click.UsageError("Give --delay or --due-at, not both.")
    members["webhook"] = _webhook(members["webhook"], members.pop("events"))
    body = args_file.read() if args_file else None
    request: dict[str, Any] = {
        "type": job_type,
        "args": args_from(whole, body, values, files, lambda: _text_name(server, job_type)),
        **{name: value for name, value in members.items() if value is not None},
    }
    return {**request, "tags": dict(tags)} if tags else request


def _webhook(url: str | None, events: tuple[str, ...]) -> dict[str, Any] | None:
    if url is None:
        if events:
            raise click.UsageError("--webhook-event is for --webhook.")
        return None
    return {"url": url, "events": events} if events else {"url": url}


def _submit(server: Connection, request: Mapping[str, Any], key: str) -> Answer:
    try:
        return server.post("/v1/jobs", request, idempotency_key=key)
    except (ConnectionFailed, ServerError) as error:
        if isinstance(error, ConnectionFailed) and not (error.sent or error.perhaps_done):
            raise
        again = f"It may have been accepted all the same. Safe to try again with: --idempotency-key {key}"
        raise Unreachable(f"{failure(error).message}\n{again}") from error


def _text_name(server: Connection, job_type: str) -> str:
    return text_property(server.get(f"/v1/job-types/{job_type}").document.get("args_schema") or {})
