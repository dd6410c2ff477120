"""API keys over HTTP: who may make which, what is shown of them, and when they were last used."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.last_uses import LastUses
from jobs.scopes import ROLES, Scope
from models import identity
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Trouble, Unavailable
from tests.doors import JOBS, KEYS, Caller, Doors, assert_problem
from tests.factories import unique


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def admin(doors: Doors) -> Caller:
    return doors.caller()


def make(caller: Caller, **members: Any) -> dict[str, Any]:
    answer = caller.post(KEYS, {"name": "ci", "role": "submitter", **members})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json
    assert answer.headers["Location"] == f"{KEYS}/{document['id']}"
    return document


def with_token(doors: Doors, made: dict[str, Any]) -> Caller:
    return Caller(doors, made["token"])


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


# Making


@pytest.mark.parametrize("role", ROLES)
def test_a_role_bundles_its_scopes(admin: Caller, role: str):
    made = make(admin, role=role)
    assert (made["role"], set(made["scopes"])) == (role, {scope.value for scope in ROLES[role]})


def test_a_new_key_opens_what_its_scopes_say_and_nothing_else(doors: Doors, admin: Caller):
    made = with_token(doors, make(admin, role=None, scopes=["jobs:read"]))
    assert made.get(JOBS).status_code == 200
    assert_problem(made.post(JOBS, {"type": "test.echo"}), 403, "forbidden")


def test_the_secret_is_shown_once(admin: Caller):
    made = make(admin)
    assert made["token"] == f"jm_{made['id']}_{made['secret']}"
    shown = [admin.get(f"{KEYS}/{made['id']}"), admin.get(KEYS)]
    assert not any(made["secret"] in answer.text for answer in shown)
    assert shown[0].json == {name: made[name] for name in made if name not in {"token", "secret"}}


def test_a_key_grants_no_scope_that_it_lacks(doors: Doors):
    maker = doors.caller(scopes={Scope.KEYS_WRITE, Scope.JOBS_READ})
    problem = assert_problem(maker.post(KEYS, {"name": "x", "role": "submitter"}), 403, "forbidden")
    assert "jobs:write" in problem["detail"]
    assert "jobs:read" not in problem["detail"]
    assert maker.post(KEYS, {"name": "x", "scopes": ["jobs:read"]}).status_code == 201


@pytest.mark.parametrize("hours", [None, 3])
def test_a_key_makes_none_that_outlives_it(doors: Doors, hours: int | None):
    maker = doors.caller(expires_at=datetime.now(UTC) + timedelta(hours=2))
    asked = {"name": "x", "role": "viewer", "expires_at": in_hours(hours) if hours else None}
    assert "outlives" in assert_problem(maker.post(KEYS, asked), 403, "forbidden")["detail"]
    assert maker.post(KEYS, {**asked, "expires_at": in_hours(1)}).status_code == 201


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({}, ""),
        ({"role": "viewer", "scopes": ["jobs:read"]}, ""),
        ({"role": "king"}, "/role"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["jobs:fly"]}, "/scopes/0"),
        ({"role": "viewer", "name": " x"}, "/name"),
        ({"role": "viewer", "name": ""}, "/name"),
        ({"role": "viewer", "name": "x" * 101}, "/name"),
        ({"role": "viewer", "name": "a\nb"}, "/name"),
        ({"role": "viewer", "expires_at": 1_900_000_000}, "/expires_at"),
        ({"role": "viewer", "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"role": "viewer", "admin": True}, "/admin"),
    ],
)
def test_what_is_wrong_with_a_key_is_told_with_its_place(admin: Caller, members: dict[str, Any], pointer: str):
    problem = assert_problem(admin.post(KEYS, {"name": "x", **members}), 400, "invalid-request")
    assert [flaw["pointer"] for flaw in problem["errors"]] == [pointer]


def test_a_try_whose_answer_was_lost_makes_no_second_key(doors: Doors, admin: Caller, monkeypatch: pytest.MonkeyPatch):
    run, tries = doors.database.run, []

    def lossy(step: Any, patience: Any) -> Any:
        tries.append(run(step, patience))
        return run(step, patience)

    monkeypatch.setattr(doors.database, "run", lossy)
    made = make(admin)
    assert len(admin.get(KEYS).json["data"]) == 2
    assert with_token(doors, made).get(JOBS).status_code == 200


# Tenants


def test_another_tenants_key_is_not_there(doors: Doors, admin: Caller):
    theirs = make(doors.caller())
    path = f"{KEYS}/{theirs['id']}"
    for answer in (admin.get(path), admin.request("DELETE", path)):
        assert_problem(answer, 404, "not-found")
    assert with_token(doors, theirs).get(JOBS).status_code == 200
    assert theirs["id"] not in admin.get(KEYS).text


def test_a_tenants_key_makes_keys_of_its_tenant_only(doors: Doors, admin: Caller):
    assert make(admin)["tenant_id"] == str(admin.tenant_id)
    for tenant in ("default", None):
        assert_problem(admin.post(KEYS, {"name": "x", "role": "viewer", "tenant": tenant}), 403, "forbidden")


def test_a_platform_key_says_whose_the_new_key_is(doors: Doors):
    operator, name = doors.caller(tenant=None), unique("tenant")
    tenant = doors.caller(name)
    assert make(operator, tenant=name)["tenant_id"] == str(tenant.tenant_id)
    assert make(operator, tenant=None)["tenant_id"] is None
    for asked, code in (({}, "missing"), ({"tenant": "nobody's"}, "unknown-tenant")):
        problem = assert_problem(operator.post(KEYS, {"name": "x", "role": "viewer", **asked}), 400, "invalid-request")
        assert [(flaw["pointer"], flaw["code"]) for flaw in problem["errors"]] == [("/tenant", code)]


# Lists and revocation


def test_keys_are_listed_newest_first_page_by_page(admin: Caller):
    made = [make(admin, name=f"key {number}")["id"] for number in range(4)]
    first = admin.get(f"{KEYS}?limit=3").json
    second = admin.get(f"{KEYS}?limit=3&cursor={first['next_cursor']}").json
    own = (admin.token or "").split("_")[1]
    assert [key["id"] for key in first["data"] + second["data"]] == [*reversed(made), own]
    assert second["next_cursor"] is None


def test_a_revoked_key_opens_nothing_and_stays_in_the_list(doors: Doors, admin: Caller):
    made = make(admin)
    for _ in range(2):
        answer = admin.request("DELETE", f"{KEYS}/{made['id']}")
        assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (204, b"", None)
    assert_problem(with_token(doors, made).get(JOBS), 401, "unauthenticated")
    revoked_at = admin.get(f"{KEYS}/{made['id']}").json["revoked_at"]
    assert revoked_at is not None
    assert revoked_at == admin.get(KEYS).json["data"][0]["revoked_at"]


@pytest.mark.parametrize("key_id", ["nobody", "x" * 500, "%00", "jm_a_b", "' OR 1=1 --"])
def test_a_key_that_is_not_there(admin: Caller, key_id: str):
    for method in ("GET", "DELETE"):
        assert_problem(admin.request(method, f"{KEYS}/{key_id}"), 404, "not-found")


# Last use


def test_a_key_tells_when_it_was_last_used(doors: Doors, admin: Caller):
    made = make(admin)
    assert made["last_used_at"] is None
    with_token(doors, made).get(JOBS)
    told = datetime.fromisoformat(admin.get(f"{KEYS}/{made['id']}").json["last_used_at"])
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_refused_request_is_a_use_and_a_wrong_secret_is_none(doors: Doors, admin: Caller):
    used, guessed = make(admin), make(admin)
    assert_problem(with_token(doors, used).get(KEYS), 403, "forbidden")
    assert_problem(Caller(doors, guessed["token"][:-1] + "!").get(JOBS), 401, "unauthenticated")
    last = {key["id"]: key["last_used_at"] for key in admin.get(KEYS).json["data"]}
    assert last[used["id"]] is not None
    assert last[guessed["id"]] is None


def test_use_is_written_once_a_minute_at_most_by_a_process_and_by_all_of_them(doors: Doors, admin: Caller):
    key_id, now = make(admin)["id"], 0.0
    one, other = (LastUses(doors.database, lambda: now) for _ in range(2))
    assert one.note(key_id)
    assert not one.note(key_id)
    one.write()
    first = last_use(doors, key_id)
    assert other.note(key_id)
    other.write()
    assert last_use(doors, key_id) == first
    now += 62
    assert one.note(key_id)


def test_use_that_could_not_be_written_is_written_at_the_next(
    doors: Doors, admin: Caller, monkeypatch: pytest.MonkeyPatch
):
    key_id, uses = make(admin)["id"], LastUses(doors.database)

    def away(*_: object) -> None:
        raise Unavailable("gone", Trouble.CONNECTION)

    assert uses.note(key_id)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "touch_keys", away)
        uses.write()
    assert uses.note(key_id)
    uses.write()
    assert last_use(doors, key_id) is not None


def last_use(doors: Doors, key_id: str) -> datetime | None:
    with doors.database.reading() as session:
        key = identity.find_any_key(session, key_id, None)
    assert key is not None
    return key.last_used_at
