"""`jobmill webhooks`: where the ends of jobs are told, over HTTP: make, change, test and look after endpoints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import click

from cli import output
from cli.asking import ask, each, yes_option
from cli.failures import EXIT_CODES
from cli.lists import show_list
from cli.options import listed, over_http
from cli.webhook_deliveries import deliveries, delivery, redeliver, show_delivery
from cli.webhooks_listen import listen
from jobmill_client import acting
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection

PATH = "/v1/webhook-endpoints"
SECRET_PATH = "/v1/webhook-secret"  # noqa: S105 - a path
MOST_OVERLAP_SECONDS = 7 * 24 * 3600
COLUMNS = ("id", "enabled", "failing_since", "held_until", "events", "types", "url", "description")

endpoint = click.argument("endpoint_id", metavar="ID", type=click.UUID)
endpoints = click.argument("endpoint_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)
events_option = click.option(
    "--event", "events", multiple=True, metavar="EVENT", help="As job.dead; may be repeated. All of them at once."
)
types_option = click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only jobs of it, as csv.profile or csv.*; may be repeated."
)
tenant_option = click.option("--tenant", help="Whose; with a platform key only.")


@click.group(epilog=EXIT_CODES)
def webhooks() -> None:
    """Have the ends of jobs told to a URL; see what was sent, send it again."""


for command in (deliveries, delivery, redeliver, listen):
    webhooks.add_command(command)


@webhooks.command("list")
@listed
@over_http
def list_(server: Connection, *, limit: int, everything: bool, as_json: bool) -> None:
    """List endpoints, newest first."""
    show_list(server, PATH, {"limit": limit}, output.Table(*COLUMNS), _row, everything=everything, as_json=as_json)


@webhooks.command()
@click.argument("receiver", metavar="URL")
@events_option
@types_option
@click.option("--description", help="What it is for.")
@click.option("--disabled", is_flag=True, help="Send nothing there before it is enabled.")
@tenant_option
@over_http
def create(server: Connection, *, receiver: str, disabled: bool, as_json: bool, **options: Any) -> None:
    """Make an endpoint and print its secret, which cannot be seen again."""
    told = {name: value for name, value in options.items() if value}
    _show_secret(
        server.post(PATH, {"url": receiver, **told, "enabled": not disabled}, repeatable=False), as_json=as_json
    )


@webhooks.command()
@endpoint
@over_http
def get(server: Connection, endpoint_id: UUID, *, as_json: bool) -> None:
    """Show an endpoint."""
    _show(server.get(_path(endpoint_id)), as_json=as_json)


@webhooks.command()
@endpoint
@click.option("--new-url", metavar="URL", help="Send it there from now on, also what waits.")
@events_option
@types_option
@click.option("--all-types", is_flag=True, help="Jobs of any type again.")
@click.option("--description", help="What it is for.")
@over_http
def update(
    server: Connection, endpoint_id: UUID, *, new_url: str | None, all_types: bool, as_json: bool, **options: Any
) -> None:
    """Change an endpoint; what is not given stays."""
    if all_types and options["types"]:
        raise click.UsageError("Give --type or --all-types, not both.")
    changes = {"url": new_url, **options, "types": options["types"] or None}
    told = {name: value for name, value in changes.items() if value is not None and value != ()}
    if all_types:
        told["types"] = None
    if not told:
        raise click.UsageError("Give --new-url, --event, --type, --all-types or --description.")
    _show(server.patch(_path(endpoint_id), told), as_json=as_json)


@webhooks.command()
@endpoints
@over_http
def enable(server: Connection, endpoint_ids: Sequence[UUID], *, as_json: bool) -> None:
    """Send to these endpoints, and forget their failures."""
    _switch(server, endpoint_ids, "enabled", as_json=as_json)


@webhooks.command()
@endpoints
@over_http
def disable(server: Connection, endpoint_ids: Sequence[UUID], *, as_json: bool) -> None:
    """Send nothing to these endpoints until they are enabled again."""
    _switch(server, endpoint_ids, "disabled", as_json=as_json)


def _switch(server: Connection, endpoint_ids: Sequence[UUID], now: str, *, as_json: bool) -> None:
    change = {"enabled": now == "enabled"}
    each(_once(endpoint_ids), lambda one: server.patch(_path(one), change), as_json=as_json, now=now)


@webhooks.command()
@endpoints
@yes_option
@over_http
def delete(server: Connection, endpoint_ids: Sequence[UUID], *, yes: bool, as_json: bool) -> None:
    """Delete endpoints; what waits to be sent there is cancelled."""
    wanted = _once(endpoint_ids)
    ask(f"This deletes {len(wanted)} webhook endpoint{'s' if len(wanted) > 1 else ''} for good.", yes=yes)
    each(wanted, lambda one: acting.delete_once(server, _path(one)), as_json=as_json, now="deleted")


@webhooks.command()
@endpoint
@over_http
def test(server: Connection, endpoint_id: UUID, *, as_json: bool) -> None:
    """Send webhook.test to an endpoint, also to one that is disabled."""
    answer = server.post(f"{_path(endpoint_id)}/test", repeatable=False)
    show_delivery(answer, as_json=as_json)
    output.note(f"See what comes of it: jobmill webhooks delivery {answer.document.get('id')}")


@webhooks.command("rotate-secret")
@click.argument("endpoint_id", metavar="[ID]", type=click.UUID, required=False)
@click.option(
    "--for-jobs", is_flag=True, help="That of webhooks to URLs that come with jobs, instead of an endpoint's."
)
@click.option(
    "--overlap-seconds",
    type=click.IntRange(0, MOST_OVERLAP_SECONDS),
    help="The secrets before sign for so long too; 0 if one has leaked.  [default: a day]",
)
@tenant_option
@over_http
def rotate_secret(
    server: Connection,
    endpoint_id: UUID | None,
    *,
    for_jobs: bool,
    overlap_seconds: int | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Make a new secret for an endpoint and print it; it cannot be seen again."""
    if for_jobs == (endpoint_id is not None):
        raise click.UsageError("Give the ID of an endpoint, or --for-jobs.")
    if tenant is not None and not for_jobs:
        raise click.UsageError("--tenant is for --for-jobs.")
    path = f"{SECRET_PATH}/rotate" if endpoint_id is None else f"{_path(endpoint_id)}/rotate-secret"
    asked = {"overlap_seconds": overlap_seconds, "tenant": tenant}
    told = {name: value for name, value in asked.items() if value is not None}
    _show_secret(server.post(path, told, repeatable=False), as_json=as_json)


def _path(endpoint_id: UUID) -> str:
    return f"{PATH}/{endpoint_id}"


def _once(ids: Sequence[UUID]) -> list[UUID]:
    return list(dict.fromkeys(ids))


def _show_secret(answer: Answer, *, as_json: bool) -> None:
    _show(answer, as_json=as_json)
    output.note("Keep the secret now: it is shown this once.")


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        output.document(answer.body)
    else:
        output.details(_details(answer.document))


def _details(found: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from found.items() if "url" not in found else {**found, **_told(found)}.items()


def _row(found: Mapping[str, Any]) -> output.Row:
    told = {**found, **_told(found)}
    return [told.get(column) for column in COLUMNS]


def _told(found: Mapping[str, Any]) -> dict[str, object]:
    """What is told in words."""
    return {
        "enabled": "enabled" if found.get("enabled") else "disabled",
        "events": " ".join(found.get("events") or ()),
        "types": "all" if found.get("types") is None else " ".join(found["types"]),
        "description": found.get("description") or None,
    }
