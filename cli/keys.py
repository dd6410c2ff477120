"""`jobmill keys`: API keys, directly on the database, so that the first one needs no other."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

import settings
from cli import audited, output
from cli.database import open_database
from cli.failures import EXIT_CODES, Refused
from cli.options import json_option
from cli.parameters import Label, Pair
from jobs import api_keys, rates, secret_key
from jobs.rates import RouteClass
from jobs.scopes import ROLES, Scope
from models import identity
from models.identity import ApiKey
from setting_forms import API_KEY_FORM

MOST_LISTED = 100_000
LONGEST_LIFE_DAYS = 36_500
PLATFORM = "(platform)"

TenantNames = Mapping[UUID, str]


@click.group(epilog=EXIT_CODES)
def keys() -> None:
    """Make, list and revoke API keys, directly on the database."""


@keys.command()
@click.option("--tenant", help="Whose key it is.")
@click.option("--platform", is_flag=True, help="Nobody's: for operators of the whole installation.")
@click.option("--name", required=True, type=Label(), help="What it is for.")
@click.option("--role", type=click.Choice(list(ROLES)), help="A bundle of scopes.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice([scope.value for scope in Scope]), help="May be repeated."
)
@click.option("--expires-in-days", type=click.IntRange(1, LONGEST_LIFE_DAYS), help="Default: never.")
@click.option(
    "--rate-limit", "limits", multiple=True, type=Pair(), help="As submit=600/60 or read=none. May be repeated."
)
@json_option
def create(
    *,
    tenant: str | None,
    platform: bool,
    name: str,
    role: str | None,
    scopes: tuple[str, ...],
    expires_in_days: int | None,
    limits: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Make a key and print its token, which cannot be seen again."""
    if platform == (tenant is not None):
        raise click.UsageError("Give --tenant NAME, or --platform.")
    granted = _granted(role, scopes)
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    chosen = settings.load()
    with open_database(chosen) as database, database.transaction() as session:
        secret_key.require(session, chosen)  # else it would open nothing
        tenant_id = _tenant_id(session, tenant)
        minted = api_keys.create_key(
            session,
            api_keys.pepper(session, chosen),
            tenant_id=tenant_id,
            name=name,
            scopes=granted,
            expires_at=expires_at,
            rate_limits=_limits(limits),
        )
        told = {"name": name, "scopes": list(minted.key.scopes), "expires_at": expires_at}
        audited.tell(session, "create_key", "keys", minted.key.id, tenant_id, told)
    shown = {**_document(minted.key, tenant), "token": minted.token}
    if as_json:
        output.made_document(shown)
        return
    output.details(_pairs(shown))
    output.note("Keep the token now: it is shown this once.")


@keys.command("list")
@click.option("--tenant", help="Only this tenant's.")
@json_option
def list_(*, tenant: str | None, as_json: bool) -> None:
    """List the keys, newest first."""
    with open_database(settings.load()) as database, database.reading() as session:
        tenant_id = _tenant_id(session, tenant)
        names = {one.id: one.name for one in identity.list_tenants(session, MOST_LISTED)}
        found = identity.list_keys(session, tenant_id, MOST_LISTED)
    shown = [_document(key, names.get(key.tenant_id) if key.tenant_id else None) for key in found]
    if as_json:
        output.made_document({"data": shown})
        return
    table = output.Table(
        "id", "tenant", "name", "scopes", "rate_limits", "created_at", "expires_at", "last_used_at", "revoked_at"
    )
    table.show([value for _, value in _pairs(key)] for key in shown)


@keys.command()
@click.argument("key_id", metavar="ID")
@json_option
def revoke(*, key_id: str, as_json: bool) -> None:
    """Make a key worthless, at once and for good."""
    whole = API_KEY_FORM.fullmatch(key_id)
    wanted = whole[1] if whole else key_id  # a token pasted by mistake is not repeated
    with open_database(settings.load()) as database:
        revoked = database.run(lambda session: _revoke(session, wanted))
    if not revoked:
        raise Refused(f"There is no key {wanted} that could be revoked. See: jobmill keys list")
    if as_json:
        output.made_document({"id": wanted, "revoked": True})
    else:
        output.note(f"Key {wanted} is revoked.")


def _limits(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    try:
        return {RouteClass(name).value: str(rates.parse(text) or "none") for name, text in pairs}
    except ValueError:
        classes = ", ".join(one.value for one in RouteClass if one is not RouteClass.GUESS)
        raise click.UsageError(f"--rate-limit is class=requests/seconds or class=none; classes: {classes}") from None


def _revoke(session: Session, key_id: str) -> bool:
    key = identity.find_any_key(session, key_id, None)
    if key is None or not identity.revoke_key(session, key_id):
        return False
    audited.tell(session, "revoke_key", "keys", key_id, key.tenant_id, {"name": key.name})
    return True


def _granted(role: str | None, scopes: tuple[str, ...]) -> frozenset[Scope]:
    if (role is None) == (not scopes):
        raise click.UsageError("Give --role, or --scope once or more.")
    return frozenset(Scope(scope) for scope in scopes) if role is None else ROLES[role]


def _tenant_id(session: Session, name: str | None) -> UUID | None:
    if name is None:
        return None
    tenant = identity.find_tenant(session, name)
    if tenant is None:
        raise Refused(f"There is no tenant {name!r}. Run: jobmill tenants create {name}")
    return tenant.id


def _document(key: ApiKey, tenant: str | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": tenant,
        "name": key.name,
        "scopes": key.scopes,
        "rate_limits": key.rate_limits or {},
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }


def _pairs(shown: Mapping[str, Any]) -> output.Pairs:
    told = {**shown, "tenant": shown["tenant"] or PLATFORM, "scopes": _bundle(shown["scopes"])}
    told["rate_limits"] = " ".join(f"{name}={limit}" for name, limit in shown["rate_limits"].items())
    return told.items()


def _bundle(scopes: tuple[str, ...]) -> str:
    for role, granted in ROLES.items():
        if set(scopes) == {scope.value for scope in granted}:
            return role
    return " ".join(scopes)
