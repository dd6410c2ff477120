"""`jobmill job-types`: which jobs a server takes, and with which arguments."""

from typing import Any

import click

from cli import output
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import over_http
from cli.parameters import TypeName
from jobmill_client.connection import Connection


@click.group("job-types", epilog=EXIT_CODES)
def job_types() -> None:
    """See which types of job there are."""


@job_types.command("list")
@over_http
def list_(server: Connection, *, as_json: bool) -> None:
    """List the types."""
    table = output.Table("type", "queue", "description")
    show_list(server, "/v1/job-types", {}, table, _row, everything=True, as_json=as_json)


@job_types.command("show")
@click.argument("job_type", metavar="TYPE", type=TypeName())
@over_http
def show(server: Connection, job_type: str, *, as_json: bool) -> None:
    """Show one type with the JSON Schema of its arguments and result."""
    answer = server.get(f"/v1/job-types/{job_type}")
    if as_json:
        output.document(answer.body)
    else:
        output.details(answer.document.items())


def _row(job_type: Any) -> output.Row:
    description = str(job_type.get("description") or "").strip()
    return job_type.get("type"), job_type.get("queue"), description.partition("\n")[0]
