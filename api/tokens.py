"""The doors to tokens: `/oauth/token` (RFC 6749, client credentials), and what others need to check them.

Its errors are those of RFC 6749, section 5.2, which OAuth clients know how to read, and no problem documents.
"""

import base64
import binascii
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote_plus

import orjson
from flask import Blueprint, Response, current_app, g, request
from pydantic import BaseModel

from api import audited, auth, examples, rate_limits
from api.body import Received
from api.endpoint import public
from api.identity_documents import KeySetDocument, OAuthErrorDocument, ServerMetadataDocument, TokenDocument
from api.services import Services
from jobs import tokens
from jobs.rates import RouteClass
from jobs.scopes import Principal, Scope

blueprint = Blueprint("tokens", __name__)

GRANT_TYPE = "client_credentials"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
KEYS_PATH = "/.well-known/jwks.json"
KEYS_KEPT_SECONDS = 60
_MOST_PARAMETERS = 100


@dataclass(eq=False)
class Refused(Exception):  # noqa: N818 - reads as the sentence it is
    """A token is not given; `error` is one of RFC 6749's codes."""

    error: str
    description: str
    status: int = 400


@blueprint.errorhandler(Refused)
def _refused(refused: Refused) -> Response:
    answer = _answer({"error": refused.error, "error_description": refused.description}, refused.status)
    if refused.status == 401:  # noqa: PLR2004
        answer.headers["WWW-Authenticate"] = 'Basic realm="jobmill"'
    return answer


class TokenForm(BaseModel, json_schema_extra={"examples": [examples.TOKEN_REQUEST]}):
    """What POST /oauth/token takes; the client may stand in `Authorization: Basic` instead."""

    grant_type: Literal["client_credentials"]
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None


@public(
    blueprint,
    "POST",
    TOKEN_PATH,
    form=TokenForm,
    reply=TokenDocument | OAuthErrorDocument,
    also=(400, 401),
    example=examples.TOKEN,
    problems=("unavailable", "quota-exceeded"),
    gives={"Pragma": "`no-cache`, for caches of old."},
)
def get_token() -> Response:
    """A token for an API key, good for 15 minutes: the key's id is the client, its secret the client's secret."""
    services: Services = current_app.extensions["jobmill"]
    form = _form()
    with services.places:
        holder = _client(services, form)
    if "grant_type" not in form:
        raise Refused("invalid_request", "grant_type is missing.")
    if form["grant_type"] != GRANT_TYPE:
        raise Refused("unsupported_grant_type", f"The one grant_type here is {GRANT_TYPE}.")
    scopes = _scopes(holder, form.get("scope", ""))
    with services.places:
        key_id, key = services.key_ring.signing(
            partial(audited.tell_of_ours, holder, "create_signing_key", "signing-keys")
        )
    made = tokens.issue(key_id, key, services.settings.issuer, holder.key_id or "", scopes, time.time())
    document = {"access_token": made, "token_type": "Bearer", "expires_in": tokens.LIFE_SECONDS}
    return _answer(document | {"scope": " ".join(scopes)})


@public(
    blueprint, "GET", KEYS_PATH, reply=KeySetDocument, media_type="application/jwk-set+json", problems=("unavailable",)
)
def list_published_keys() -> Response:
    """The keys that our tokens are signed with (RFC 7517)."""
    services: Services = current_app.extensions["jobmill"]
    with services.places:
        published = services.key_ring.published()
    answer = Response(orjson.dumps({"keys": published}), content_type="application/jwk-set+json")
    answer.headers["Cache-Control"] = f"public, max-age={KEYS_KEPT_SECONDS}"
    return answer


@public(blueprint, "GET", "/.well-known/oauth-authorization-server", reply=ServerMetadataDocument)
def get_server_metadata() -> Response:
    """Where tokens are given and how (RFC 8414)."""
    services: Services = current_app.extensions["jobmill"]
    issuer = services.settings.issuer
    document = {
        "issuer": issuer,
        "token_endpoint": issuer + TOKEN_PATH,
        "jwks_uri": issuer + KEYS_PATH,
        "grant_types_supported": [GRANT_TYPE],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": [scope.value for scope in Scope],
    }
    answer = _answer(document)
    answer.headers["Cache-Control"] = f"public, max-age={KEYS_KEPT_SECONDS}"
    return answer


def _form() -> dict[str, str]:
    received: Received = g.received
    if request.mimetype != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "The body is application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl(
            received.content.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(received.content),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise Refused("invalid_request", "The body is malformed.") from None
    known = [(name, value) for name, value in pairs if name in TokenForm.model_fields]  # others are passed over (3.2)
    if received.problem is not None or len(dict(known)) < len(known):
        raise Refused("invalid_request", "The body is incomplete, or repeats a parameter.")
    return {name: value for name, value in known if value}


def _client(services: Services, form: dict[str, str]) -> Principal:
    key_id, secret = _credentials(form)
    holder = auth.by_secret(services, key_id, secret)
    if holder is None:
        raise Refused("invalid_client", "The API key is unknown, expired or revoked, or its secret is another.", 401)
    g.principal = holder
    rate_limits.count(services, holder, RouteClass.TOKEN)
    return holder


def _credentials(form: dict[str, str]) -> tuple[str, str]:
    """The client's id and secret, from the header or from the body, not from both (RFC 6749, 2.3)."""
    header = request.headers.get("Authorization")
    if header is None:
        return form.get("client_id", ""), form.get("client_secret", "")
    key_id, secret = _basic(header)
    if "client_secret" in form or form.get("client_id", key_id) != key_id:
        raise Refused("invalid_request", "The client's credentials are given in more than one way.")
    return key_id, secret


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        words = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        words = ""
    key_id, colon, secret = words.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_client", "The Authorization header is no Basic credentials.", 401)
    return unquote_plus(key_id), unquote_plus(secret)


def _scopes(holder: Principal, asked: str) -> tuple[str, ...]:
    held = {scope.value for scope in holder.scopes}
    wanted = set(asked.split()) or held
    if beyond := wanted - held:
        raise Refused("invalid_scope", f"The key does not hold {len(beyond)} of the scopes that were asked for.")
    return tuple(sorted(wanted))


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    answer = Response(orjson.dumps(document), status, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Pragma"] = "no-cache"  # RFC 6749, 5.1
    return answer
