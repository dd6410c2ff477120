"""`jobmill undeliverable`: messages that RabbitMQ could not deliver and that are of no job, over HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import click

from cli import output
from cli.asking import ask, each, yes_option
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import listed, over_http
from jobmill_client import acting
from jobmill_client.connection import Connection
from models.undeliverable import UndeliverableReason

PATH = "/v1/undeliverable"
COLUMNS = ("id", "queue", "reason", "body_bytes", "collected_at", "detail")

message = click.argument("message_id", metavar="ID", type=click.UUID)
messages = click.argument("message_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)


@click.group(epilog=EXIT_CODES)
def undeliverable() -> None:
    """See and discard messages that RabbitMQ could not deliver, with a platform key."""


@undeliverable.command("list")
@click.option("--queue", help="Only those that came to this queue.")
@click.option(
    "--reason", type=click.Choice([reason.value for reason in UndeliverableReason]), help="Only those of this reason."
)
@listed
@over_http
def list_(server: Connection, *, limit: int, everything: bool, as_json: bool, **filters: Any) -> None:
    """List them, newest first."""
    table = output.Table(*COLUMNS)
    params = {**filters, "limit": limit}
    if not show_list(server, PATH, params, table, _row, everything=everything, as_json=as_json):
        output.note("There are none that your key sees. Only a platform key sees any: jobmill keys create --platform")


@undeliverable.command()
@message
@over_http
def show(server: Connection, message_id: UUID, *, as_json: bool) -> None:
    """Show one, with its body, headers and properties."""
    answer = server.get(f"{PATH}/{message_id}")
    if as_json:
        output.document(answer.body)
    else:
        output.details(_details(answer.document))


@undeliverable.command()
@messages
@yes_option
@over_http
def discard(server: Connection, message_ids: Sequence[UUID], *, yes: bool, as_json: bool) -> None:
    """Delete them for good."""
    wanted = list(dict.fromkeys(message_ids))
    ask(f"This discards {len(wanted)} undeliverable message{'s' if len(wanted) > 1 else ''} for good.", yes=yes)
    each(wanted, lambda one: acting.delete_once(server, f"{PATH}/{one}"), as_json=as_json, now="discarded")


def _row(found: Mapping[str, Any]) -> output.Row:
    return [found.get(column) for column in COLUMNS]


def _details(found: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from ((name, found.get(name)) for name in ("id", "queue", "reason", "detail"))
    yield from ((name, found.get(name)) for name in ("dead_lettered_at", "collected_at"))
    cut_short = ", of which the first 64 KiB are kept" if found.get("truncated") else ""
    yield "body_bytes", f"{found.get('body_bytes')}{cut_short}"
    yield "body_encoding", found.get("body_encoding")
    yield "body", output.Lines(found.get("body") or "")
    yield "headers", found.get("headers")
    yield "properties", found.get("properties")
