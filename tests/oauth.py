"""Asking for tokens, for tests."""

import base64

from werkzeug.test import TestResponse

from tests.doors import Caller, Doors

TOKEN = "/oauth/token"  # noqa: S105 - a path


def parts(caller: Caller) -> tuple[str, str]:
    _, key_id, secret = (caller.token or "").split("_", 2)
    return key_id, secret


def ask(doors: Doors, form: dict[str, str] | str, **headers: str) -> TestResponse:
    return Caller(doors, None).request("POST", TOKEN, data=form, headers=headers)


def form(caller: Caller, **told: str) -> dict[str, str]:
    key_id, secret = parts(caller)
    return {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret, **told}


def basic(key_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{key_id}:{secret}".encode()).decode()


def with_token(doors: Doors, answer: TestResponse) -> Caller:
    assert answer.status_code == 200, answer.text
    return Caller(doors, answer.json["access_token"])
