"""`jobmill tenants`: whom jobs and keys belong to, directly on the database."""

import click
from sqlalchemy.orm import Session

import settings
from cli import audited, output
from cli.database import open_database
from cli.failures import EXIT_CODES
from cli.options import json_option
from cli.parameters import Label
from models import identity

MOST_LISTED = 100_000


@click.group(epilog=EXIT_CODES)
def tenants() -> None:
    """Make and list tenants, directly on the database."""


@tenants.command()
@click.argument("name", type=Label())
@json_option
def create(*, name: str, as_json: bool) -> None:
    """Make a tenant; one that exists is left as it is."""
    with open_database(settings.load()) as database:
        tenant, made = database.run(lambda session: _ensure(session, name))
    if as_json:
        output.made_document({**vars(tenant), "created": made})
        return
    output.details(vars(tenant).items())
    if not made:
        output.note("It existed already.")


@tenants.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List the tenants by name."""
    with open_database(settings.load()) as database, database.reading() as session:
        found = identity.list_tenants(session, MOST_LISTED)
    if as_json:
        output.made_document({"data": [vars(tenant) for tenant in found]})
    else:
        output.Table("id", "name", "created_at").show((one.id, one.name, one.created_at) for one in found)


def _ensure(session: Session, name: str) -> tuple[identity.Tenant, bool]:
    known = identity.find_tenant(session, name)
    if known is not None:
        return known, False
    tenant, _ = identity.ensure_tenant(session, name)
    audited.tell(session, "create_tenant", "tenants", str(tenant.id), tenant.id, {"name": name})
    return tenant, True
