"""What every answer has in common, above all when something goes wrong."""

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Blueprint
from sqlalchemy import text
from werkzeug.exceptions import BadRequest, ImATeapot, RequestEntityTooLarge

from api.app import create_app
from api.endpoint import Call, Reply, endpoint
from api.problems import Problem
from jobs.scopes import Scope
from models import lease, moves, worker
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Unstorable
from models.ids import new_id
from tests.doors import JOBS, Caller, Doors, assert_problem, settings
from tests.factories import new_job
from tests.workbench import counted

NOBODY_LISTENS = "amqp://guest:guest@127.0.0.1:9/"


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def test_of_a_body_with_flaws_without_end_a_hundred_are_told(caller: Caller):
    document = assert_problem(caller.post(JOBS, {f"x{number}": 1 for number in range(150)}), 400, "invalid-request")
    assert document["detail"].startswith("151 part(s)")
    assert len(document["errors"]) == 100


# The framework's own errors


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v2/jobs", "/v1/jobs/a/b/c", "/problems", "/%00", "/é"])
def test_an_unknown_address_is_a_problem(caller: Caller, path: str):
    assert_problem(caller.get(path), 404, "not-found")
    assert_problem(caller.post(path, {"type": "test.echo"}), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", JOBS, {"GET", "HEAD", "OPTIONS", "POST"}),
        ("DELETE", JOBS, {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PATCH", "/v1/job-types", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/v1/jobs/x/cancel", {"OPTIONS", "POST"}),
        ("BREW", JOBS, {"GET", "HEAD", "OPTIONS", "POST"}),
    ],
)
def test_a_method_that_does_not_fit_is_told_which_do(caller: Caller, method: str, path: str, allowed: set[str]):
    answer = caller.request(method, path)
    assert_problem(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (BadRequest("what was that?"), 400, "invalid-request"),
        (RequestEntityTooLarge(), 413, "body-too-large"),
        (ImATeapot(), 418, "http-error"),
    ],
)
def test_whatever_the_framework_raises_is_a_problem(doors: Doors, raised: Exception, status: int, code: str):
    app = create_app(doors.services)

    @app.get("/raise")
    def _raise() -> str:
        raise raised

    assert_problem(app.test_client().get("/raise"), status, code)


@pytest.mark.parametrize("code", ["none", "<script>", "%3Cscript%3E", "internal-error%00"])
def test_a_problem_that_does_not_exist_has_no_page(doors: Doors, code: str):
    answer = Caller(doors, None).get(f"/problems/{code}")
    assert_problem(answer, 404, "not-found")
    assert "<script>" not in answer.json["detail"]


# Request ids and the headers of every answer


@pytest.mark.parametrize("request_id", ["r-1", "!", "~" * 128, '{"a":1}'])
def test_a_clients_request_id_is_kept(caller: Caller, request_id: str):
    assert caller.get(JOBS, X_Request_Id=request_id).headers["X-Request-Id"] == request_id
    assert caller.get("/nothing", X_Request_Id=request_id).json["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", " ", "a b", "~" * 129, "é", "a\tb", "a\x7fb"])
def test_a_request_id_that_could_forge_a_line_is_replaced(caller: Caller, request_id: str):
    made = caller.get(JOBS, X_Request_Id=request_id).headers["X-Request-Id"]
    assert str(UUID(made)) == made


@pytest.mark.parametrize("request_id", ["a\r\nSet-Cookie: x=1", "a\nb", "\r\n\r\n<html>"])
def test_a_request_id_cannot_inject_a_header(doors: Doors, request_id: str):
    # No server would pass these on; should one, they stop here.
    answer = doors.app.test_client().get("/nothing", environ_overrides={"HTTP_X_REQUEST_ID": request_id})
    assert "Set-Cookie" not in answer.headers
    assert str(UUID(answer.headers["X-Request-Id"]))


def test_each_request_gets_an_id_of_its_own(caller: Caller):
    assert len({caller.get(JOBS).headers["X-Request-Id"] for _ in range(20)}) == 20


# A view that breaks

extra = Blueprint("extra", __name__, url_prefix="/v1/extra")
WORDS = "postgresql://jobmill:hunter2@db/jobmill"


@endpoint(extra, "POST", "/broken", scope=Scope.JOBS_WRITE)
def broken(call: Call) -> Reply:
    moves.record(call.session, [new_job(call.session, tenant_id=call.principal.tenant_id)])
    raise RuntimeError(WORDS)


@endpoint(extra, "POST", "/refused", scope=Scope.JOBS_WRITE, problems=("too-busy",))
def refused(call: Call) -> Reply:
    moves.record(call.session, [new_job(call.session, tenant_id=call.principal.tenant_id)])
    raise Problem("too-busy", "Not now.")


@endpoint(extra, "POST", "/accepted", scope=Scope.JOBS_WRITE)
def accepted(call: Call) -> Reply:
    moves.record(call.session, [new_job(call.session, tenant_id=call.principal.tenant_id)])
    return Reply({}, rings=True)


@endpoint(extra, "GET", "/unserialisable", scope=Scope.JOBS_READ)
def unserialisable(call: Call) -> Reply:
    return Reply({"lock": object()})


@pytest.fixture
def more_doors(doors: Doors) -> Iterator[Caller]:
    app, doors.app = doors.app, create_app(doors.services)
    doors.app.register_blueprint(extra)
    doors.rung.clear()
    yield doors.caller()
    doors.app = app


@pytest.mark.parametrize(("name", "status", "code"), [("broken", 500, "internal-error"), ("refused", 409, "too-busy")])
def test_what_a_view_wrote_before_it_raised_is_rolled_back(
    doors: Doors, more_doors: Caller, name: str, status: int, code: str
):
    before = doors.count_jobs()
    assert_problem(more_doors.post(f"/v1/extra/{name}"), status, code)
    assert doors.count_jobs() == before
    assert not doors.rung.is_set()


def test_what_a_view_wrote_is_committed_before_the_dispatcher_is_woken(doors: Doors, more_doors: Caller):
    before = doors.count_jobs()
    assert more_doors.post("/v1/extra/accepted").status_code == 200
    assert doors.count_jobs() == before + 1
    assert doors.rung.is_set()


def test_a_500_says_nothing_but_how_to_report_it(more_doors: Caller, capfd: pytest.CaptureFixture[str]):
    answer = more_doors.post("/v1/extra/broken", X_Request_Id="report-me")
    problem = assert_problem(answer, 500, "internal-error")
    assert problem == {
        "type": "/problems/internal-error",
        "title": "Something broke on our side",
        "status": 500,
        "detail": "The error was logged under this request_id.",
        "instance": "/v1/extra/broken",
        "code": "internal-error",
        "request_id": "report-me",
    }
    logged = capfd.readouterr().out
    assert "request_failed" in logged
    assert "report-me" in logged


def test_an_answer_that_is_no_json_is_a_500(more_doors: Caller):
    assert_problem(more_doors.get("/v1/extra/unserialisable"), 500, "internal-error")


def test_a_token_is_logged_by_its_id_only(caller: Caller, capfd: pytest.CaptureFixture[str]):
    caller.get(JOBS)
    logged = capfd.readouterr().out
    _, key_id, secret = (caller.token or "").split("_", 2)
    assert key_id in logged
    assert secret not in logged


def test_a_value_that_cannot_be_stored_is_the_client_s_to_mend(doors: Doors, capfd: pytest.CaptureFixture[str]):
    app = create_app(doors.services)

    @app.get("/raise")
    def _raise() -> str:
        raise Unstorable("The database cannot hold one of the values: DataError")

    problem = assert_problem(app.test_client().get("/raise"), 400, "invalid-request")
    assert "Nothing was stored" in problem["detail"]
    assert "Traceback" not in capfd.readouterr().out


def test_a_value_that_the_database_refuses_is_a_problem_and_stores_nothing(doors: Doors, caller: Caller):
    app = create_app(doors.services)
    extra = Blueprint("refused", __name__)

    @endpoint(extra, "POST", "/refused", scope=Scope.JOBS_WRITE)
    def _store(call: Call) -> Reply:
        moves.record(call.session, [new_job(call.session)])
        call.session.execute(text("SELECT CAST('x' AS integer)"))
        return Reply({})

    app.register_blueprint(extra)
    before = doors.count_jobs()
    answer = app.test_client().post("/refused", headers={"Authorization": f"Bearer {caller.token}"})
    if doors.database.dialect == POSTGRESQL:  # SQLite makes a 0 of it
        assert_problem(answer, 400, "invalid-request")
        assert doors.count_jobs() == before


# Counted


def test_requests_are_counted_by_route_and_problems_by_code(caller: Caller):
    def seen(method: str, route: str, status: str) -> float:
        return counted("jobmill_request_seconds_count", method=method, route=route, status=status)

    before = seen("GET", "/v1/jobs/<job_id>", "404")
    others = seen("other", "none", "405")
    missing = counted("jobmill_problems_total", code="not-found")
    caller.get(f"{JOBS}/one")
    caller.get(f"{JOBS}/two")
    caller.request("BREW", JOBS)
    assert seen("GET", "/v1/jobs/<job_id>", "404") == before + 2
    assert counted("jobmill_problems_total", code="not-found") == missing + 2
    assert seen("other", "none", "405") == others + 1


# Health


def test_the_process_answers(doors: Doors):
    answer = Caller(doors, None).get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


ATTENDED = {"dispatcher": "ok", "workers": "ok", "tables": "ok"}
DESERTED = ATTENDED | {"dispatcher": "down", "workers": "down"}


@pytest.fixture
def attended(doors: Doors) -> Iterator[None]:
    """A dispatcher leads, and a worker takes jobs."""
    dispatcher, hand = new_id(), new_id()
    with doors.database.transaction() as session:
        worker.register(session, hand, host="test", pid=1, queues=["default"], threads=1, version="0")
        lease.lead(session, "dispatcher", dispatcher, timedelta(minutes=1))
    yield
    with doors.database.transaction() as session:
        worker.mark_stopped(session, [hand])
        lease.resign(session, "dispatcher", dispatcher)


def test_without_other_services_the_database_is_all_that_is_needed(doors: Doors, attended: None):
    answer = Caller(Doors(doors.database), None).get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "checks": {"database": "ok"} | ATTENDED})


def test_jobs_are_accepted_while_nobody_dispatches_or_works_and_that_is_told(doors: Doors):
    alone = Doors(doors.database)
    answer = Caller(alone, None).get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "degraded", "checks": {"database": "ok"} | DESERTED})
    alone.caller().submit()


def test_a_worker_that_drains_takes_no_jobs(doors: Doors, attended: None):
    with doors.database.transaction() as session:
        for drained in worker.list_workers(session):
            worker.mark_draining(session, drained.id)
    answer = Caller(Doors(doors.database), None).get("/readyz")
    assert answer.json["checks"]["workers"] == "down"


def test_tables_of_an_older_release_are_told(doors: Doors, attended: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("models.migrate.HEAD", "9999")
    answer = Caller(Doors(doors.database), None).get("/readyz")
    assert (answer.status_code, answer.json["status"], answer.json["checks"]["tables"]) == (200, "degraded", "old")


def test_many_that_ask_at_once_are_all_told_the_truth(doors: Doors, attended: None):
    asked = Doors(doors.database)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: Caller(asked, None).get("/readyz").json["status"], range(8)))
    assert answers == ["ok"] * 8


def test_however_many_services_are_mute_the_answer_comes_in_time(doors: Doors):
    with socket.create_server(("127.0.0.1", 0)) as broker, socket.create_server(("127.0.0.1", 0)) as cache:
        ports = [mute.getsockname()[1] for mute in (broker, cache)]
        lame = Doors(
            doors.database, rabbitmq_url=f"amqp://127.0.0.1:{ports[0]}", redis_url=f"redis://127.0.0.1:{ports[1]}"
        )
        began = time.monotonic()
        answer = Caller(lame, None).get("/readyz")
    assert time.monotonic() - began < 2
    assert (answer.json["checks"]["rabbitmq"], answer.json["checks"]["redis"]) == ("down", "down")


def test_a_dead_broker_and_cache_are_told_and_requests_are_served(doors: Doors, attended: None):
    lame = Doors(doors.database, rabbitmq_url=NOBODY_LISTENS, redis_url="redis://127.0.0.1:9/0")
    answer = Caller(lame, None).get("/readyz")
    assert answer.status_code == 200
    found = {"database": "ok", "rabbitmq": "down", "redis": "down"}
    assert answer.json == {"status": "degraded", "checks": found | ATTENDED}
    lame.caller().submit()


def test_living_services_are_told(doors: Doors, attended: None, rabbitmq_url: str, redis_url: str):
    well = Doors(doors.database, rabbitmq_url=f"{NOBODY_LISTENS},{rabbitmq_url}", redis_url=redis_url)
    answer = Caller(well, None).get("/readyz")
    assert answer.json == {"status": "ok", "checks": {"database": "ok", "rabbitmq": "ok", "redis": "ok"} | ATTENDED}


def test_a_broker_that_accepts_and_says_nothing_is_down(doors: Doors):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        answer = Caller(Doors(doors.database, rabbitmq_url=f"amqp://127.0.0.1:{port}"), None).get("/readyz")
    assert answer.json["checks"]["rabbitmq"] == "down"


def test_two_installations_in_one_process_do_not_share_what_they_know_of_their_services(doors: Doors, attended: None):
    for _ in range(20):  # the next one may stand where the last one stood in memory
        lame = Doors(doors.database, rabbitmq_url=NOBODY_LISTENS)
        assert Caller(lame, None).get("/readyz").json["status"] == "degraded"
        del lame
        assert Caller(Doors(doors.database), None).get("/readyz").json["status"] == "ok"


def test_without_its_database_a_process_answers_and_is_not_ready(doors: Doors, tmp_path: Any):
    from models.database import connect_postgresql

    away = connect_postgresql("postgresql://nobody@127.0.0.1:9/none", "jobmill-tests", 1)
    cut_off = Doors.__new__(Doors)
    cut_off.services = type(doors.services)(settings(), away, doors.services.registry, doors.services.doorbell, "0")
    cut_off.app = create_app(cut_off.services)
    nobody = Caller(cut_off, "jm_someone_" + "x" * 43)
    assert nobody.get("/healthz").status_code == 200
    answer = nobody.get("/readyz")
    unknown = dict.fromkeys(ATTENDED, "unknown")
    assert (answer.status_code, answer.json) == (
        503,
        {"status": "unavailable", "checks": {"database": "down"} | unknown},
    )
    refused = nobody.get(JOBS)
    assert_problem(refused, 503, "unavailable")
    assert refused.headers["Retry-After"] == "2"
    assert not re.search("127.0.0.1|psycopg|Operational", refused.text)
    away.close()
