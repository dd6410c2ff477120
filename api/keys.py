"""The doors to API keys: make, list, read and revoke."""

from typing import Annotated, Literal, Self
from uuid import UUID

from flask import Blueprint
from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from api import examples, rate_limits
from api.endpoint import Call, Reply, endpoint
from api.identity_documents import KeyDocument, NewKeyDocument, key_document
from api.lists import ListQuery, page
from api.problems import Flaw, Problem
from api.submission import Moment
from jobs import api_keys, keys
from jobs.keys import NewKey
from jobs.rates import RouteClass
from jobs.scopes import ROLES, Scope
from models import identity
from setting_forms import RATE_LIMIT

blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys")

Role = Literal["submitter", "viewer", "operator", "admin"]
LimitedClass = Literal[RouteClass.SUBMIT, RouteClass.READ, RouteClass.OPERATE, RouteClass.TOKEN]


class KeyBody(BaseModel, extra="forbid", json_schema_extra={"examples": [examples.KEY_REQUEST]}):
    """What POST /v1/keys takes: a role, or scopes one by one."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    role: Role | None = None
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] | None = None
    expires_at: Moment | None = None
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    rate_limits: dict[LimitedClass, Annotated[str, StringConstraints(pattern=RATE_LIMIT)]] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("a name is of printable characters, with no blank at either end")
        return value

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.role is None) == (self.scopes is None):
            raise ValueError("give either role or scopes")
        return self

    def granted(self) -> frozenset[Scope]:
        """The scopes that were asked for."""
        return self.scopes or ROLES[self.role or ""]


@endpoint(
    blueprint,
    "POST",
    "",
    scope=Scope.KEYS_WRITE,
    body=KeyBody,
    reply=NewKeyDocument,
    status=201,
    gives={"Location": "The key's address."},
)
def create_key(call: Call) -> Reply:
    """Make a key; its token is in this answer and never again."""
    body: KeyBody = call.body
    asked: dict[RouteClass, str] = dict(body.rate_limits.items())
    rate_limits.refuse_looser(call.services, call.principal, asked)
    limits = rate_limits.told(call.principal, asked)
    new = NewKey(body.name, body.granted(), body.expires_at, call.once(api_keys.new_token), limits)
    try:
        made = keys.create(call.session, call.services.pepper(call.session), call.principal, new, _tenant_id(call))
    except keys.GrantsTooMuch as error:
        raise Problem("forbidden", str(error)) from None
    except ValueError:
        raise _flawed("/expires_at", "in-the-past", "It is over already.") from None
    secret = made.token.split("_", 2)[2]
    document: NewKeyDocument = {**key_document(made.key), "token": made.token, "secret": secret}
    told = {"name": made.key.name, "scopes": document["scopes"], "expires_at": document["expires_at"]}
    headers = {"Location": f"/v1/keys/{made.key.id}"}
    return Reply(document, 201, headers, tenant_id=made.key.tenant_id, detail=told)


@endpoint(blueprint, "GET", "", scope=Scope.KEYS_READ, query=ListQuery, lists=KeyDocument)
def list_keys(call: Call) -> Reply:
    """The tenant's keys, newest first, expired and revoked ones too."""
    return page(
        call,
        "keys",
        lambda before, limit: identity.list_keys(call.session, call.principal.tenant_id, limit, before),
        lambda key: key.position,
        key_document,
    )


@endpoint(blueprint, "GET", "/<key_id>", scope=Scope.KEYS_READ, reply=KeyDocument)
def get_key(call: Call, key_id: str) -> Reply:
    """One key, without its secret."""
    return Reply(key_document(keys.find(call.session, call.principal, key_id)))


@endpoint(blueprint, "DELETE", "/<key_id>", scope=Scope.KEYS_WRITE, status=204)
def revoke_key(call: Call, key_id: str) -> Reply:
    """Make a key worthless, at once and for good; it stays in the list."""
    revoked = keys.revoke(call.session, call.principal, key_id)
    return Reply(None, 204, tenant_id=revoked.tenant_id, detail={"name": revoked.name})


def _tenant_id(call: Call) -> UUID | None:
    """Whose the new key is: its maker's, or of whom the platform says."""
    body: KeyBody = call.body
    if call.principal.tenant_id is not None:
        if "tenant" in body.model_fields_set:
            raise Problem("forbidden", "A tenant's key makes keys of that tenant; leave `tenant` out.")
        return call.principal.tenant_id
    if "tenant" not in body.model_fields_set:
        raise _flawed(
            "/tenant", "missing", "A platform key says whose: the name of a tenant, or null for the platform."
        )
    try:
        return None if body.tenant is None else keys.tenant_named(call.session, body.tenant)
    except keys.NoSuchTenant as error:
        raise _flawed("/tenant", "unknown-tenant", str(error)) from None


def _flawed(pointer: str, code: str, detail: str) -> Problem:
    return Problem(
        "invalid-request", "The key cannot be made as it is; see errors.", [Flaw("body", pointer, code, detail)]
    )
