"""Every route for everybody: each role of the own and of another tenant, the platform, and those with no business here.

The rows are the routes of the application, none left out: a new one is in this matrix as soon as it is declared.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from api.app import create_app
from api.endpoint import operation_of
from api.operation import Operation
from api.services import Services
from jobs import tokens
from jobs.scopes import ROLES, Scope
from models import identity, queue
from models.dialect import POSTGRESQL, SQLITE
from models.states import State
from setting_forms import DEFAULT_RATE_LIMITS
from tests.doors import ENDPOINTS, JOBS, KEYS, Caller, Doors, assert_problem, settings
from tests.factories import job_in
from tests.undelivered import keep

DEAD = "/v1/dead-letters"
SAFE = {"HEAD", "OPTIONS"}


@dataclass(frozen=True)
class Route:
    """One operation where it stands."""

    method: str
    rule: str
    operation: Operation
    scope: Scope
    parameters: tuple[str, ...]


def routes() -> list[Route]:
    nothing: Any = None
    app = create_app(Services(settings(), nothing, nothing, nothing, version="0"))
    found = []
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None and operation.scope is not None:
            rest = (rule.rule, operation, operation.scope, tuple(sorted(rule.arguments)))
            found.extend(Route(method, *rest) for method in sorted((rule.methods or set()) - SAFE))
    return found


ROUTES = routes()
BAD = (
    "no token",
    "unknown",
    "malformed",
    "expired",
    "revoked",
    "token expired",
    "token of a revoked key",
    "forged token",
)
OWN = tuple(f"own {role}" for role in ROLES)
OTHER = tuple(f"other {role}" for role in ROLES)
AS_TOKENS = ("own admin's token", "own viewer's token", "other admin's token")
EVERYBODY = (*OWN, *OTHER, *AS_TOKENS, "platform", *BAD)


def the_job(stage: "Stage", route: Route) -> str:
    if route.rule.startswith(DEAD):
        return the_dead_letter(stage)
    job_id: str = stage.who["own admin"].submit()["id"]
    if route.operation.media_type == "text/event-stream":  # which ends with its job
        stage.who["own admin"].post(f"{JOBS}/{job_id}/cancel")
    return job_id


def the_dead_letter(stage: "Stage") -> str:
    told = {"tenant_id": stage.who["own admin"].tenant_id, "type": "test.echo"}
    return str(stage.doors.database.run(lambda session: job_in(session, State.DEAD, **told)).id)


def the_key(stage: "Stage", _route: Route) -> str:
    key_id: str = stage.who["own admin"].post(KEYS, {"name": "x", "role": "viewer"}).json["id"]
    return key_id


def the_redrive(stage: "Stage", _route: Route) -> str:
    redrive_id: str = stage.who["own admin"].post("/v1/redrives", {"filter": {"type": "test.none"}}).json["id"]
    return redrive_id


def the_endpoint(stage: "Stage", route: Route) -> str:
    """The same for all who do not delete it: a tenant may have so many only."""
    if route.method == "DELETE":
        return new_endpoint(stage)
    stage.endpoint_id = stage.endpoint_id or new_endpoint(stage)
    return stage.endpoint_id


def new_endpoint(stage: "Stage") -> str:
    endpoint_id: str = stage.who["own admin"].post(ENDPOINTS, {"url": "https://example.com/in"}).json["id"]
    return endpoint_id


def the_delivery(stage: "Stage", route: Route) -> str:
    delivery_id: str = stage.who["own admin"].post(f"{ENDPOINTS}/{the_endpoint(stage, route)}/test").json["id"]
    return delivery_id


def the_message(stage: "Stage", _route: Route) -> str:
    return str(keep(stage.doors.database))


# How each parameter of a path is made. `SHARED` is of nobody, and shown to every tenant.
OWNED: dict[str, Callable[["Stage", Route], str]] = {
    "job_id": the_job,
    "key_id": the_key,
    "redrive_id": the_redrive,
    "endpoint_id": the_endpoint,
    "delivery_id": the_delivery,
}
SHARED = {"job-types": {"name": "test.echo"}, "queues": {"name": "shared"}}
# What is the installation's: to every tenant there is no such thing.
INSTALLATIONS: dict[str, Callable[["Stage", Route], str]] = {"message_id": the_message}
TENANTS = {"submit_job", "submit_batch"}
PLATFORMS = {"pause_queue", "resume_queue", "limit_queue"}
# What is sent where the example in the declaration is of types that only its reader has.
JOB = {"type": "test.echo"}
BODIES: dict[str, Any] = {
    "submit_job": JOB,
    "submit_batch": {"jobs": [JOB]},
    "create_key": {"name": "x", "scopes": ["jobs:read"]},
    "edit_dead_letter": {"args": {"value": "edited"}},
}
# What only a platform key says: whose a new thing is.
WHOSE: dict[str, Any] = {
    "create_key": {"tenant": None},
    "create_webhook_endpoint": {"tenant": "matrix own"},
    "rotate_webhook_secret": {"tenant": "matrix own"},
}


def shared_by(route: Route) -> dict[str, str]:
    return SHARED.get(route.rule.split("/")[2], {})


@dataclass
class Stage:
    """Two tenants with all they have, and everybody who may knock."""

    doors: Doors
    who: dict[str, Caller] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    endpoint_id: str | None = None

    def path(self, route: Route) -> str:
        """The route's address, to something of the own tenant."""
        path = route.rule
        for name in route.parameters:
            made = (OWNED | INSTALLATIONS).get(name)
            value = made(self, route) if made else shared_by(route)[name]
            self.own += [value] if made else []
            path = path.replace(f"<{name}>", value)
        return path

    def knock(self, route: Route, who: str, path: str | None = None) -> TestResponse:
        """Ask as somebody, for something that is made for it unless the address is given."""
        body, path, caller = None, path or self.path(route), self.who[who]
        if route.operation.body is not None:
            extra: Any = route.operation.body.model_config.get("json_schema_extra") or {}
            body = BODIES.get(route.operation.name) or extra["examples"][0]
            if who == "platform":
                body = {**body, **WHOSE.get(route.operation.name, {})}
        sent = {} if body is None else {"data": orjson.dumps(body), "headers": {"Content-Type": "application/json"}}
        return caller.request(route.method, path, **sent)


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def stage(request: pytest.FixtureRequest) -> Stage:
    unlimited = tuple(f"{of_class}=none" for of_class in DEFAULT_RATE_LIMITS)
    doors = Doors(request.getfixturevalue(f"shared_{request.param}"), rate_limits=unlimited)
    made = Stage(doors)
    for side in ("own", "other"):
        for role, scopes in ROLES.items():
            made.who[f"{side} {role}"] = doors.caller(f"matrix {side}", scopes=scopes)
    for who in ("own admin", "own viewer", "other admin"):
        made.who[f"{who}'s token"] = Caller(doors, token_of(made.who[who]))
    made.who["platform"] = doors.caller(tenant=None)
    made.who |= strangers(doors, made.who["own admin"])
    doors.database.run(lambda session: queue.limit(session, SHARED["queues"]["name"], max_running=5))
    return made


def token_of(caller: Caller, got_at: float = 0, key: Any = None) -> str:
    ring = caller.doors.services.key_ring
    key_id, signing = ring.signing(lambda *_: None)
    holder = (caller.token or "").split("_")[1]
    scopes = tuple(scope.value for scope in Scope)
    issuer = caller.doors.services.settings.issuer
    return tokens.issue(key_id, key or signing, issuer, holder, scopes, got_at or time.time())


def strangers(doors: Doors, admin: Caller) -> dict[str, Caller]:
    expired = doors.caller("matrix own", expires_at=datetime.now(UTC) + timedelta(hours=1))
    revoked = doors.caller("matrix own")
    tokens_of = {"token expired": token_of(admin, time.time() - 1000), "token of a revoked key": token_of(revoked)}
    with doors.database.transaction() as session:
        identity.revoke_key(session, (revoked.token or "").split("_")[1])
        past = datetime.now(UTC) - timedelta(seconds=1)
        ended = identity.api_keys.c.id == (expired.token or "").split("_")[1]
        session.execute(update(identity.api_keys).where(ended).values(expires_at=past))
    forged = token_of(admin, key=tokens.OKPKey.generate_key("Ed25519"))
    others = {"unknown": f"jm_nobody_{'x' * 43}", "malformed": "jm_", "forged token": forged, **tokens_of}
    known = {"no token": Caller(doors, None), "expired": expired, "revoked": revoked}
    return known | {name: Caller(doors, token) for name, token in others.items()}


def may(route: Route, who: str) -> bool:
    role = "admin" if who == "platform" else who.removesuffix("'s token").split()[1]
    return route.scope in ROLES[role]


def hidden(route: Route, who: str) -> bool:
    """Whether the thing that is asked for is somebody else's."""
    others = INSTALLATIONS if who.startswith("own") else OWNED | INSTALLATIONS
    return who != "platform" and bool(set(route.parameters) & set(others))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.rule}")
@pytest.mark.parametrize("who", EVERYBODY)
def test_every_route_for_everybody(stage: Stage, route: Route, who: str):
    answer = stage.knock(route, who)
    if who in BAD:
        assert_problem(answer, 401, "unauthenticated")
    elif not may(route, who):
        assert route.scope in assert_problem(answer, 403, "forbidden")["detail"]
    elif route.operation.name in (TENANTS if who == "platform" else PLATFORMS):
        assert "platform key" in assert_problem(answer, 403, "forbidden")["detail"]
    elif hidden(route, who):
        assert_problem(answer, 404, "not-found")
    else:
        assert answer.status_code == route.operation.status, answer.text
    if who.startswith("other"):
        assert answer.status_code in {403, 404} or not [made for made in stage.own if made in answer.text]


def test_what_a_refused_request_asked_for_was_not_done(stage: Stage):
    """Whoever may not cancel or revoke something has not, whatever he was answered."""
    admin = stage.who["own admin"]
    for route in ROUTES:
        if route.method == "GET" or not set(route.parameters) & set(OWNED):
            continue
        path = stage.path(route)
        thing = "/".join(path.split("/")[:4])
        before = admin.get(thing).json
        for who in (*OTHER, *BAD, "own viewer"):
            assert stage.knock(route, who, path).status_code in {401, 403, 404}
        after = admin.get(thing).json
        assert after == before


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.rule}")
def test_every_parameter_of_a_path_is_known_to_this_matrix(route: Route):
    unknown = set(route.parameters) - OWNED.keys() - shared_by(route).keys() - INSTALLATIONS.keys()
    assert not unknown, f"say in OWNED, SHARED or INSTALLATIONS how {unknown} of {route.rule} is made"


def test_every_route_declares_its_scope_or_is_one_of_those_for_everybody(stage: Stage):
    app = stage.doors.app
    undeclared = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if (operation := operation_of(app.view_functions[rule.endpoint])) is None or operation.scope is None
    }
    assert {rule for rule in undeclared if rule.startswith("/v1")} == set()
    assert {"/" + rule.split("/")[1] for rule in undeclared} <= {
        "/healthz", "/readyz", "/docs", "/openapi.json", "/problems", "/oauth", "/.well-known",
    }  # fmt: skip
