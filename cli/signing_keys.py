"""`jobmill signing-keys`: the keys that sign tokens, directly on the database."""

from collections.abc import Mapping

import click

import settings
from cli import audited, output
from cli.database import open_database
from cli.failures import EXIT_CODES
from cli.options import json_option
from jobs import api_keys, secret_key, signing_keys
from models import signing_keys as kept_keys
from models.signing_keys import SigningKey

FIELDS = ("id", "signs", "created_at", "signs_from", "retires_at")


@click.group("signing-keys", epilog=EXIT_CODES)
def group() -> None:
    """See and rotate the keys that sign tokens, directly on the database."""


@group.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List the published keys, newest first; the first that signs is the one that does."""
    with open_database(settings.load()) as database:
        found = database.read(kept_keys.list_published)
    shown = [_document(key) for key in found]
    if as_json:
        output.made_document({"data": shown})
    else:
        output.Table(*FIELDS).show(list(key.values()) for key in shown)


@group.command()
@click.option("--at-once", is_flag=True, help="After a leak: tokens signed by the present key are worth nothing more.")
@json_option
def rotate(*, at_once: bool, as_json: bool) -> None:
    """Publish a new key: it signs in five minutes, and the present one is good for twenty more."""
    chosen = settings.load()
    with open_database(chosen) as database, database.transaction() as session:
        secret_key.require(session, chosen)  # else it would sign nothing
        made = signing_keys.rotate(session, api_keys.pepper(session, chosen), at_once=at_once)
        audited.tell(session, "rotate_signing_keys", "signing-keys", made, detail={"at_once": at_once})
    if as_json:
        output.made_document({"id": made})
    else:
        output.note(f"Key {made} signs {'from now on' if at_once else 'in five minutes'}.")


def _document(key: SigningKey) -> Mapping[str, object]:
    return {name: getattr(key, name) for name in FIELDS}
