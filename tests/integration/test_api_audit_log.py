"""The audit log: every change is in it, with who, what, which, from where and when; and it stays."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from api.endpoint import operation_of
from jobs.rates import RouteClass
from jobs.scopes import ROLES, Scope
from models import audit
from models.audit import Entry
from models.dialect import POSTGRESQL, SQLITE, dialect_of
from models.ids import new_id
from tests.doors import JOBS, KEYS, Caller, Doors, assert_problem
from tests.factories import unique

LOG = "/v1/audit-log"


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"), trusted_proxies="127.0.0.0/8")


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def log(caller: Caller) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = caller.get(LOG).json["data"]
    return entries


def key_id(caller: Caller) -> str:
    return (caller.token or "").split("_")[1]


def test_a_change_is_told_with_who_what_which_from_where_and_when(caller: Caller):
    job = caller.submit()
    headers = {"X_Request_Id": "cancel-1", "X_Forwarded_For": "203.0.113.9"}
    assert caller.post(f"{JOBS}/{job['id']}/cancel", **headers).status_code == 202
    [entry] = log(caller)
    assert datetime.now(UTC) - datetime.fromisoformat(entry.pop("at")) < timedelta(seconds=5)
    assert entry.pop("id")
    assert entry == {
        "tenant_id": str(caller.tenant_id),
        "actor": f"key:{key_id(caller)}",
        "action": "cancel_job",
        "resource": "jobs",
        "resource_id": job["id"],
        "address": "203.0.113.9",
        "request_id": "cancel-1",
        "detail": None,
    }


def test_keys_that_are_made_and_revoked_are_told_without_their_secret(caller: Caller):
    made = caller.post(KEYS, {"name": "ci", "role": "viewer"}).json
    caller.request("DELETE", f"{KEYS}/{made['id']}")
    revoked, created = log(caller)
    assert (created["action"], created["resource_id"], created["detail"]["name"]) == ("create_key", made["id"], "ci")
    assert (revoked["action"], revoked["resource_id"]) == ("revoke_key", made["id"])
    assert made["secret"] not in caller.get(LOG).text


def test_what_was_refused_changed_nothing_and_is_not_told(doors: Doors, caller: Caller):
    viewer = doors.caller("audited", scopes=ROLES["viewer"])
    assert_problem(caller.request("DELETE", f"{KEYS}/nobody"), 404, "not-found")
    assert_problem(caller.post(KEYS, {"name": "x"}), 400, "invalid-request")
    assert_problem(viewer.post(KEYS, {"name": "x", "role": "viewer"}), 403, "forbidden")
    assert log(caller) == log(viewer) == []


def test_submitting_and_reading_are_no_changes(caller: Caller):
    caller.get(f"{JOBS}/{caller.submit()['id']}")
    assert log(caller) == []


def test_what_the_platform_does_to_a_tenant_s_things_is_in_the_tenant_s_log(doors: Doors):
    name, operator = unique("tenant"), doors.caller(tenant=None)
    tenant = doors.caller(name)
    job = tenant.submit()
    assert operator.post(f"{JOBS}/{job['id']}/cancel").status_code == 202
    made = operator.post(KEYS, {"name": "x", "role": "viewer", "tenant": name}).json
    operator.request("DELETE", f"{KEYS}/{made['id']}")
    told = [(entry["action"], entry["actor"]) for entry in log(tenant)]
    assert told == [(action, f"key:{key_id(operator)}") for action in ("revoke_key", "create_key", "cancel_job")]


def test_a_tenant_sees_its_own_log_and_the_platform_all_of_it(doors: Doors, caller: Caller):
    other = doors.caller()
    for who in (caller, other):
        who.post(KEYS, {"name": "x", "role": "viewer"})
    assert {entry["tenant_id"] for entry in log(caller)} == {str(caller.tenant_id)}
    assert {entry["tenant_id"] for entry in log(doors.caller(tenant=None))} >= {
        str(who.tenant_id) for who in (caller, other)
    }


def test_the_log_is_read_page_by_page_newest_first(caller: Caller):
    for number in range(5):
        caller.post(KEYS, {"name": f"key {number}", "role": "viewer"})
    first = caller.get(f"{LOG}?limit=3").json
    second = caller.get(f"{LOG}?limit=3&cursor={first['next_cursor']}").json
    names = [entry["detail"]["name"] for entry in first["data"] + second["data"]]
    assert names == [f"key {number}" for number in reversed(range(5))]


def test_a_try_whose_answer_was_lost_is_told_once(doors: Doors, caller: Caller, monkeypatch: pytest.MonkeyPatch):
    run, job = doors.database.run, caller.submit()

    def twice(step: Any, patience: Any) -> Any:
        run(step, patience)
        return run(step, patience)

    with monkeypatch.context() as patch:
        patch.setattr(doors.database, "run", twice)
        assert caller.post(f"{JOBS}/{job['id']}/cancel").status_code == 202
    assert len(log(caller)) == 1


def test_a_change_that_is_not_told_is_not_made(doors: Doors, caller: Caller, monkeypatch: pytest.MonkeyPatch):
    job = caller.submit()

    def broken(*_: object) -> None:
        raise RuntimeError("the log is full")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "add", broken)
        assert_problem(caller.post(f"{JOBS}/{job['id']}/cancel"), 500, "internal-error")
    assert caller.get(f"{JOBS}/{job['id']}").json["state"] == "queued"


def test_every_operation_that_changes_something_is_told_but_submissions(doors: Doors):
    changing = [
        operation
        for rule in doors.app.url_map.iter_rules()
        if (operation := operation_of(doors.app.view_functions[rule.endpoint])) is not None
        and operation.scope is not None
        and (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}
    ]
    untold = {operation.name for operation in changing if not operation.audited}
    assert untold == {operation.name for operation in changing if operation.counts_as is RouteClass.SUBMIT}
    assert untold == {operation.name for operation in changing if operation.name.startswith("submit_")}
    assert len(changing) > len(untold) > 0


def test_the_log_needs_its_scope(doors: Doors):
    assert_problem(doors.caller(scopes=set(Scope) - {Scope.AUDIT_READ}).get(LOG), 403, "forbidden")


# The table


def entry(**told: Any) -> Entry:
    fields = {"tenant_id": None, "actor": "key:a", "action": "x", "resource": "y", "resource_id": None}
    return Entry(**{"id": new_id(), **fields, "address": None, "request_id": None, **told})


@pytest.mark.parametrize("change", ["update", "delete", "truncate"])
def test_the_tables_refuse_to_change_what_was_told(session: Session, change: str):
    audit.add(session, entry())
    statements: dict[str, Any] = {
        "update": update(audit.audit_log).values(actor="key:b"),
        "delete": delete(audit.audit_log),
        "truncate": text("TRUNCATE audit_log") if dialect_of(session) == POSTGRESQL else delete(audit.audit_log),
    }
    with pytest.raises(DatabaseError, match="only ever added to"):
        session.execute(statements[change])


def test_an_entry_has_the_database_s_time(session: Session):
    tenant_id = new_id()
    audit.add(session, entry(tenant_id=tenant_id, at=datetime(2001, 1, 1, tzinfo=UTC)))
    [kept] = audit.list_entries(session, tenant_id, None, 10)
    assert abs(datetime.now(UTC) - kept.at) < timedelta(seconds=5)
