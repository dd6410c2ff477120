"""The API as its clients meet it: the application over a database, and callers with keys of their own tenants."""

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from flask import Flask
from pydantic import BaseModel
from sqlalchemy import func, select
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from api.app import create_app
from api.endpoint import operation_of
from api.openapi import problems_of
from api.services import Services
from jobs import api_keys, registry
from jobs.registry import Registry, job
from jobs.scopes import ROLES, Scope
from models import identity
from models.database import Database
from models.doorbell import LocalDoorbell
from models.job import jobs
from models.redrives import TYPE as REDRIVE
from models.webhook_deliveries import TYPE as DELIVER
from settings import Settings
from tests.factories import unique

VERSION = "0.0.test"
JOBS = "/v1/jobs"
KEYS = "/v1/keys"
ENDPOINTS = "/v1/webhook-endpoints"
DELIVERIES = "/v1/webhook-deliveries"

types = Registry()


class Anything(BaseModel):
    value: Any = None


class Strictly(BaseModel):
    number: int
    names: list[str] = []


@job("test.echo", into=types)
def echo(args: Anything) -> Any:
    """Return the value as it is."""
    return args.value


@job(
    "test.strict",
    queue="media",
    max_attempts=3,
    max_attempts_limit=4,
    timeout=timedelta(seconds=60),
    timeout_limit=timedelta(seconds=120),
    into=types,
)
def strict(args: Strictly) -> int:
    return args.number


def settings(**given: Any) -> Settings:
    """Settings that come from nowhere but here."""
    return Settings(_env_file=None, **given)  # type: ignore[call-arg]


for internal in (REDRIVE, DELIVER):  # which are offered to nobody
    types.add(registry.load(()).get(internal))


class Doors:
    """The application, as `jobmill api` and `jobmill up` make it. `rung` is set when the dispatcher was woken."""

    def __init__(self, database: Database, **given: Any) -> None:
        self.database = database
        self.rung = threading.Event()
        self.services = Services(settings(**given), database, types, LocalDoorbell(self.rung), VERSION)
        self.app: Flask = create_app(self.services)

    def caller(
        self,
        tenant: str | None = "",
        scopes: Iterable[Scope] = ROLES["admin"],
        expires_at: datetime | None = None,
    ) -> "Caller":
        """Someone with a key: of that tenant, of a new one unless it is named, of the platform if it is None."""
        with self.database.transaction() as session:
            tenant_id = (
                identity.ensure_tenant(session, tenant or unique("tenant"))[0].id if tenant is not None else None
            )
            pepper = api_keys.pepper(session, self.services.settings)
            minted = api_keys.create_key(
                session, pepper, tenant_id=tenant_id, name="test", scopes=scopes, expires_at=expires_at
            )
        return Caller(self, minted.token, tenant_id)

    def count_jobs(self) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(jobs)) or 0


class Caller:
    """A client with a token; without one it sends no Authorization."""

    def __init__(self, doors: Doors, token: str | None, tenant_id: UUID | None = None) -> None:
        self.doors = doors
        self.token = token
        self.tenant_id = tenant_id

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        """POST; a body that is not bytes is sent as JSON."""
        if body is None:
            return self.request("POST", path, headers=headers)
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.request("POST", path, data=data, headers={"Content-Type": "application/json", **headers})

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        sent = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        # To its end, as a server does: what is done once an answer has left is done then.
        options.setdefault("buffered", True)
        answer = self.doors.app.test_client().open(path, method=method, headers=sent, **options)
        assert_documented(self.doors.app, answer)
        return answer

    def submit(self, **members: Any) -> dict[str, Any]:
        """Submit a job that is in order, and give its document."""
        answer = self.post(JOBS, {"type": "test.echo", **members})
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json
        return document


def assert_documented(app: Flask, answer: TestResponse) -> None:
    """The OpenAPI document tells of such an answer: its status, and the problem's code. Kept with every request."""
    try:
        rule, arguments = app.url_map.bind_to_environ(answer.request.environ).match(return_rule=True)
    except HTTPException:
        return
    operation = operation_of(app.view_functions[rule.endpoint])
    if operation is None or answer.request.method == "OPTIONS" or not answer.data:
        return
    if answer.content_type == "application/problem+json":
        told = problems_of(operation, path_parameters=bool(arguments))
        told.append("method-not-allowed")  # of the methods that an address has not, no operation tells
        assert orjson.loads(answer.data)["code"] in told, f"{rule.rule} does not tell of it: {answer.text}"
    else:
        assert answer.status_code in {operation.status, *operation.also, 304}, answer.text


def assert_problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The answer is that problem, told in full and leaking nothing; gives its document."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = orjson.loads(answer.data)
    assert document["code"] == code, document
    assert document["type"] == f"/problems/{code}"
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert document["title"]
    assert document["detail"]
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text
    return document
