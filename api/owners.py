"""Whose a new thing is: of whoever makes it, or of whom a platform key says."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from api.endpoint import Call
from api.problems import Flaw, Problem
from jobs import keys

TenantName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    Field(description="Whose it is; for platform keys, which must say it."),
]


class OwnedBody(BaseModel, extra="forbid", strict=True):
    """A body in which a platform key names the tenant."""

    tenant: TenantName | None = None


def owner(call: Call) -> UUID:
    """The tenant that a request with such a body is about. Raises Problem."""
    named: str | None = call.body.tenant
    if call.principal.tenant_id is not None:
        if named is not None:
            raise Problem("forbidden", "A tenant's key acts for that tenant; leave `tenant` out.")
        return call.principal.tenant_id
    if named is None:
        raise _flawed("missing", "A platform key says whose: the name of a tenant.")
    try:
        return keys.tenant_named(call.session, named)
    except keys.NoSuchTenant as error:
        raise _flawed("unknown-tenant", str(error)) from None


def _flawed(code: str, detail: str) -> Problem:
    return Problem(
        "invalid-request", "It cannot be said whose it is; see errors.", [Flaw("body", "/tenant", code, detail)]
    )
