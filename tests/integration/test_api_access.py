"""Who may come through which door: keys, scopes, and the walls between tenants."""

import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from jobs.scopes import ROLES, Scope
from models import identity
from models.dialect import POSTGRESQL, SQLITE
from models.ids import new_id
from tests.doors import JOBS, KEYS, Caller, Doors, assert_problem

ALPHABET = string.ascii_letters + string.digits


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


A_JOB = UUID("01a212f4-7dbc-7132-9793-fcf77937c176")
ROUTES = [
    ("POST", JOBS, Scope.JOBS_WRITE),
    ("GET", JOBS, Scope.JOBS_READ),
    ("GET", f"{JOBS}/{A_JOB}", Scope.JOBS_READ),
    ("GET", f"{JOBS}/{A_JOB}/events", Scope.JOBS_READ),
    ("POST", f"{JOBS}/{A_JOB}/cancel", Scope.JOBS_WRITE),
    ("GET", "/v1/job-types", Scope.JOBS_READ),
    ("GET", "/v1/job-types/test.echo", Scope.JOBS_READ),
    ("GET", "/v1/workers", Scope.QUEUES_READ),
    ("GET", "/v1/audit-log", Scope.AUDIT_READ),
    ("POST", KEYS, Scope.KEYS_WRITE),
    ("GET", KEYS, Scope.KEYS_READ),
    ("GET", f"{KEYS}/nobody", Scope.KEYS_READ),
    ("DELETE", f"{KEYS}/nobody", Scope.KEYS_WRITE),
]
OPEN = [
    "/healthz",
    "/readyz",
    "/problems/not-found",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
]
OPEN = [
    "/healthz",
    "/readyz",
    "/problems/not-found",
    "/openapi.json",
    "/docs",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
]


def ask(caller: Caller, method: str, path: str) -> TestResponse:
    bodies = {JOBS: {"type": "test.echo"}, KEYS: {"name": "x", "scopes": ["keys:write"]}}
    return caller.post(path, bodies[path]) if method == "POST" and path in bodies else caller.request(method, path)


def test_what_is_open_to_everybody_is_named_here(doors: Doors):
    """Who may come through all others, test_api_matrix.py tries with every role."""
    rules = {rule.rule.split("<")[0].rstrip("/") for rule in doors.app.url_map.iter_rules()}
    assert {rule for rule in rules if not rule.startswith("/v1")} == {
        *(path.removesuffix("/not-found") for path in OPEN),
        "/oauth/token",
    }


# Authentication


def wrong_secret(token: str) -> str:
    return token[:-1] + ("a" if token[-1] != "a" else "b")


def unknown_token() -> str:
    return "jm_nobody_" + "".join(secrets.choice(ALPHABET) for _ in range(43))


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_no_route_answers_without_a_key(doors: Doors, method: str, path: str, scope: Scope):
    before = doors.count_jobs()
    answer = ask(Caller(doors, None), method, path)
    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert doors.count_jobs() == before


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {token}",
        "{token}",
        "Bearer {token} {token}",
        "Token {token}",
        "Bearer{token}",
        "Bearer, {token}",
    ],
)
def test_a_header_that_is_no_bearer_token_is_refused(caller: Caller, header: str):
    answer = caller.get(JOBS, Authorization=header.format(token=caller.token))
    assert_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    "token",
    [
        "jm",
        "jm__",
        "jm_a_b",
        "x" * 43,
        "jm_nobody_" + "x" * 15,
        "jm_nobody_" + "x" * 129,
        "jm_" + "n" * 33 + "_" + "x" * 43,
        "jm_nobody_" + "é" * 43,
        "jm_nobody_" + "x" * 100_000,
        "../../etc/passwd",
        "' OR 1=1 --",
        "eyJhbGciOiJub25lIn0.e30.",
    ],
    ids=lambda token: token[:30],
)
def test_a_malformed_token_is_refused(doors: Doors, token: str):
    answer = Caller(doors, token).get(JOBS)
    assert_problem(answer, 401, "unauthenticated")


def test_an_unknown_key_and_a_wrong_secret_are_refused_alike(doors: Doors, caller: Caller):
    unknown, wrong = (Caller(doors, token).get(JOBS) for token in (unknown_token(), wrong_secret(caller.token or "")))
    for answer in (unknown, wrong):
        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert unknown.json["detail"] == wrong.json["detail"]


def test_a_revoked_key_opens_nothing_from_then_on(doors: Doors, caller: Caller):
    assert caller.get(JOBS).status_code == 200
    with doors.database.transaction() as session:
        identity.revoke_key(session, (caller.token or "").split("_")[1])
    assert_problem(caller.get(JOBS), 401, "unauthenticated")


def test_a_key_opens_nothing_after_its_expiry(doors: Doors):
    caller = doors.caller(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert caller.get(JOBS).status_code == 200
    with doors.database.transaction() as session:
        key_id = (caller.token or "").split("_")[1]
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(identity.api_keys).where(identity.api_keys.c.id == key_id).values(expires_at=past))
    assert_problem(caller.get(JOBS), 401, "unauthenticated")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_as_http_reads_it(caller: Caller, scheme: str):
    assert caller.get(JOBS, Authorization=f"{scheme} {caller.token}").status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_some_doors_need_no_key(doors: Doors, path: str):
    assert Caller(doors, None).get(path).status_code == 200


# Scopes


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_a_key_without_the_scope_is_told_which_it_lacks(doors: Doors, method: str, path: str, scope: Scope):
    everything_else = doors.caller(scopes=set(Scope) - {scope})
    before = doors.count_jobs()
    answer = ask(everything_else, method, path)
    assert scope in assert_problem(answer, 403, "forbidden")["detail"]
    assert answer.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'
    assert doors.count_jobs() == before


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_a_key_with_that_scope_alone_comes_in(doors: Doors, method: str, path: str, scope: Scope):
    assert ask(doors.caller(scopes=[scope]), method, path).status_code in {200, 201, 202, 404}


def test_a_viewer_reads_and_cannot_submit_or_cancel(doors: Doors):
    admin = doors.caller("viewed")
    viewer = doors.caller("viewed", scopes=ROLES["viewer"])
    job = admin.submit()
    assert viewer.get(f"{JOBS}/{job['id']}").json == job
    assert_problem(viewer.post(JOBS, {"type": "test.echo"}), 403, "forbidden")
    assert_problem(viewer.post(f"{JOBS}/{job['id']}/cancel"), 403, "forbidden")
    assert admin.get(f"{JOBS}/{job['id']}").json["state"] == "queued"


def test_a_refusal_for_want_of_a_scope_comes_before_any_word_about_the_body(doors: Doors):
    assert_problem(doors.caller(scopes=ROLES["viewer"]).post(JOBS, b"{"), 403, "forbidden")
    assert_problem(Caller(doors, None).post(JOBS, b"{"), 401, "unauthenticated")
    assert_problem(Caller(doors, None).request("POST", JOBS), 401, "unauthenticated")


# Tenants


@pytest.mark.parametrize(
    ("method", "path"), [("GET", f"{JOBS}/{{}}"), ("GET", f"{JOBS}/{{}}/events"), ("POST", f"{JOBS}/{{}}/cancel")]
)
def test_another_tenants_job_is_not_there(doors: Doors, caller: Caller, method: str, path: str):
    theirs, none = doors.caller().submit()["id"], str(new_id())
    refused, missing = (caller.request(method, path.format(job_id)) for job_id in (theirs, none))
    told = [assert_problem(answer, 404, "not-found") for answer in (refused, missing)]
    # Nothing tells the two apart but the id that was asked for.
    assert told[0]["detail"].replace(theirs, none) == told[1]["detail"]
    assert {name for name, _ in refused.headers} == {name for name, _ in missing.headers}


def test_another_tenants_cancelled_job_goes_on(doors: Doors, caller: Caller):
    other = doors.caller()
    job = other.submit()
    caller.post(f"{JOBS}/{job['id']}/cancel")
    assert other.get(f"{JOBS}/{job['id']}").json["state"] == "queued"


@pytest.mark.parametrize(
    "query", ["", "?state=queued", "?type=test.echo", "?queue=default", "?state=queued&state=dead"]
)
def test_lists_show_the_callers_own_jobs_only(doors: Doors, caller: Caller, query: str):
    doors.caller().submit()
    mine = caller.submit()
    doors.caller().submit()
    assert [job["id"] for job in caller.get(JOBS + query).json["data"]] == [mine["id"]]


def test_a_platform_key_sees_every_tenants_jobs(doors: Doors):
    operator = doors.caller(tenant=None)
    ids = [doors.caller().submit()["id"] for _ in range(2)]
    assert [job["id"] for job in operator.get(f"{JOBS}?limit=2").json["data"]] == ids[::-1]
    assert operator.get(f"{JOBS}/{ids[0]}").json["id"] == ids[0]
    assert operator.get(f"{JOBS}/{ids[0]}/events").status_code == 200
    assert operator.post(f"{JOBS}/{ids[0]}/cancel").json["state"] == "cancelled"


def test_a_platform_key_has_no_tenant_to_submit_for(doors: Doors):
    before = doors.count_jobs()
    problem: dict[str, Any] = assert_problem(
        doors.caller(tenant=None).post(JOBS, {"type": "test.echo"}), 403, "forbidden"
    )
    assert "platform key" in problem["detail"]
    assert doors.count_jobs() == before
