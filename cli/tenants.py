"""`jobmill tenants`: whom jobs and keys belong to, directly on the database."""

import click
from sqlalchemy.orm import Session

import settings
from cli import audited, output
from cli.database import open_database
from cli.failures import EXIT_CODES, Refused
from cli.options import json_option
from cli.parameters import Label
from models import identity

MOST_LISTED = 100_000


@click.group(epilog=EXIT_CODES)
def tenants() -> None:
    """Make, list and weigh tenants, directly on the database."""


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
        rows = ((one.id, one.name, one.weight, one.created_at) for one in found)
        output.Table("id", "name", "weight", "created_at").show(rows)


@tenants.command()
@click.argument("name", type=Label())
@click.argument("weight", type=click.IntRange(1, identity.MOST_WEIGHT))
@json_option
def weigh(*, name: str, weight: int, as_json: bool) -> None:
    """Set a tenant's share: where several tenants wait for one queue, weight 2 gets twice as much as weight 1."""
    with open_database(settings.load()) as database:
        tenant = database.run(lambda session: _weigh(session, name, weight))
    if as_json:
        output.made_document(vars(tenant))
    else:
        output.details(vars(tenant).items())


def _weigh(session: Session, name: str, weight: int) -> identity.Tenant:
    change = identity.weigh_tenant(session, name, weight)
    if change is None:
        raise Refused(f"There is no tenant {name!r}. See: jobmill tenants list")
    before, after = change
    told = {"name": name, "before": {"weight": before.weight}, "after": {"weight": after.weight}}
    audited.tell(session, "weigh_tenant", "tenants", str(after.id), after.id, told)
    return after


def _ensure(session: Session, name: str) -> tuple[identity.Tenant, bool]:
    known = identity.find_tenant(session, name)
    if known is not None:
        return known, False
    tenant, _ = identity.ensure_tenant(session, name)
    audited.tell(session, "create_tenant", "tenants", str(tenant.id), tenant.id, {"name": name})
    return tenant, True
