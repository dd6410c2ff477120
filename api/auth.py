"""Who asks, and whether he may: the credentials of a request, read in one place."""

import re
import time
from dataclasses import replace

from flask import Response, current_app, g, request
from sqlalchemy.orm import Session

from api import rate_limits
from api.patience import PATIENCE
from api.problems import Problem
from api.services import Services
from jobs import api_keys, issuers, tokens
from jobs.issuers import IssuerAway
from jobs.rates import RouteClass
from jobs.scopes import Principal, Scope, known_scopes
from jobs.tokens import BadToken, Verified
from models import identity
from setting_forms import API_KEY_FORM

_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)


def authorised(services: Services, scope: Scope, counts_as: RouteClass) -> Principal:
    """Who asks; a Problem if that is nobody we know, or one who may not."""
    bearer = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if bearer is None:
        raise _unauthenticated("The request carries no `Authorization: Bearer` header.")
    principal = _by_token(services, bearer[1]) if tokens.looks_like_one(bearer[1]) else _by_key(services, bearer[1])
    g.principal = principal
    rate_limits.count(services, principal, counts_as)
    if not principal.may(scope):
        challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
        raise Problem("forbidden", f"This needs the scope {scope}.", headers=challenge)
    return principal


def by_secret(services: Services, key_id: str, secret: str) -> Principal | None:
    """Whose API key this is, given in two parts."""
    return _asked_for(services, f"jm_{key_id}_{secret}")


def _key_id(key: str) -> str | None:
    form = API_KEY_FORM.fullmatch(key)
    return form[1] if form else None


def note_use(answer: Response) -> Response:
    """Once the answer has left, write down that the key was used."""
    services: Services = current_app.extensions["jobmill"]
    principal: Principal | None = g.get("principal")
    if principal is not None and principal.key_id is not None and services.last_uses.note(principal.key_id):
        answer.call_on_close(services.last_uses.write)
    return answer


def _by_key(services: Services, key: str) -> Principal:
    principal = _asked_for(services, key)
    if principal is None:
        raise _invalid_token("The API key is unknown, expired or revoked.")
    return principal


def _asked_for(services: Services, key: str) -> Principal | None:
    key_id = _key_id(key)
    if key_id is not None:
        rate_limits.refuse_guesser(services, key_id)
    principal = api_keys.authenticate(services.find_key, services.known_pepper(), key)
    if principal is None:
        rate_limits.count_guess(services, key_id)
    return principal


def _by_token(services: Services, token: str) -> Principal:
    # Its signature first and outside any transaction: its issuer may have to be asked for new keys.
    try:
        verified = tokens.verify(token, services.trusted, time.time())
    except BadToken as error:
        rate_limits.count_guess(services, None)
        raise _invalid_token(str(error)) from None
    except IssuerAway as error:
        raise Problem("issuer-away", str(error), headers={"Retry-After": "60"}) from None
    return services.database.read(lambda session: _holder(session, services, verified), PATIENCE)


def _holder(session: Session, services: Services, verified: Verified) -> Principal:
    """Whom a token stands for, by what is known of him now."""
    if verified.issuer == services.settings.issuer:
        return _holder_of_ours(session, verified)
    issuer = next(one for one in services.settings.jwt_issuers if one.issuer == verified.issuer)
    name = issuers.tenant_name(issuer, verified)
    tenant = identity.find_tenant(session, name) if name is not None else None
    if tenant is None:
        raise Problem("forbidden", "The token names no tenant that is known here.")
    return issuers.principal(issuer, verified, tenant.id)


def _holder_of_ours(session: Session, verified: Verified) -> Principal:
    """The key that the token was got with, if it is still good, with no more than both of them grant."""
    key = identity.find_key(session, verified.subject)
    if key is None:
        raise _invalid_token("The API key that the token was got with has expired or was revoked.")
    holder = api_keys.principal_of(key)
    return replace(holder, scopes=holder.scopes & known_scopes(verified.words("scope")))


def _invalid_token(detail: str) -> Problem:
    return _unauthenticated(detail, ' error="invalid_token"')


def _unauthenticated(detail: str, challenge: str = "") -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": f"Bearer{challenge}"})
