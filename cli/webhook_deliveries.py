"""`jobmill webhooks deliveries`, `delivery` and `redeliver`: what was sent, what came of it, and once more."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import click

from cli import output
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import listed, over_http
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection

PATH = "/v1/webhook-deliveries"
COLUMNS = ("id", "event", "to", "job_id", "status", "attempts", "next_attempt_at", "response_code", "failure")

delivery_id = click.argument("delivery_id", metavar="ID", type=click.UUID)


@click.command(epilog=EXIT_CODES)
@click.argument("endpoint_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--job", "job_id", metavar="ID", type=click.UUID, help="Those that tell of this job, to whomever.")
@listed
@over_http
def deliveries(
    server: Connection,
    endpoint_id: UUID | None,
    *,
    job_id: UUID | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List deliveries to an endpoint, or of a job's end, newest first; without either, all."""
    if endpoint_id is not None and job_id is not None:
        raise click.UsageError("Give the ID of an endpoint or --job, not both.")
    path = PATH if endpoint_id is None else f"/v1/webhook-endpoints/{endpoint_id}/deliveries"
    params = {"job_id": job_id, "limit": limit}
    show_list(server, path, params, output.Table(*COLUMNS), _row, everything=everything, as_json=as_json)


@click.command(epilog=EXIT_CODES)
@delivery_id
@over_http
def delivery(server: Connection, delivery_id: UUID, *, as_json: bool) -> None:
    """Show a delivery, with what the receiver answered last."""
    show_delivery(server.get(f"{PATH}/{delivery_id}"), as_json=as_json)


@click.command(epilog=EXIT_CODES)
@delivery_id
@over_http
def redeliver(server: Connection, delivery_id: UUID, *, as_json: bool) -> None:
    """Send an event once more, with the id and body of the first time, and show the delivery that does.

    One that waits is sent now, and a dead letter is replayed; one that is over is sent by a delivery of its own.
    """
    show_delivery(server.post(f"{PATH}/{delivery_id}/redeliver", repeatable=False), as_json=as_json)


def show_delivery(answer: Answer, *, as_json: bool) -> None:
    """Show a delivery."""
    if as_json:
        output.document(answer.body)
    else:
        output.details(_details(answer.document))


def _details(found: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from {**found, "attempts": _attempts(found), "response_body": _answer(found)}.items()


def _row(found: Mapping[str, Any]) -> output.Row:
    told = {**found, "to": found.get("endpoint_id") or found.get("url"), "attempts": _attempts(found)}
    return [told.get(column) for column in COLUMNS]


def _attempts(found: Mapping[str, Any]) -> str:
    return f"{found.get('attempts', 0)}/{found.get('max_attempts', '?')}"


def _answer(found: Mapping[str, Any]) -> output.Lines | None:
    return output.Lines(found["response_body"]) if found.get("response_body") else None
