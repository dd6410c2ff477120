"""`jobmill workers`: who does the work, over HTTP."""

from typing import Any

import click

from cli import output
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import over_http
from jobmill_client.connection import Connection

COLUMNS = ("id", "state", "host", "pid", "queues", "busy", "threads", "heartbeat_at", "version")


@click.group(epilog=EXIT_CODES)
def workers() -> None:
    """See who does the work."""


@workers.command("list")
@over_http
def list_(server: Connection, *, as_json: bool) -> None:
    """List the workers that live, or lived within the last hour."""
    show_list(server, "/v1/workers", {}, output.Table(*COLUMNS), _row, everything=True, as_json=as_json)


def _row(worker: Any) -> output.Row:
    told = {**worker, "queues": ",".join(worker.get("queues") or ())}
    return [told.get(column) for column in COLUMNS]
