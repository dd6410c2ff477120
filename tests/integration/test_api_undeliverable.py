"""The doors to messages that RabbitMQ could not deliver: who sees what of them, and what is left of a discarded one."""

import base64
from typing import Any

import pytest

from jobs.scopes import ROLES
from models.database import Database
from models.undeliverable import MOST_BODY_BYTES, UndeliverableReason
from tests.doors import Caller, Doors, assert_problem
from tests.undelivered import keep

PATH = "/v1/undeliverable"


NOBODY = "01936f6d-9a10-7c44-8b21-0d2f3a4b5c6d"


@pytest.fixture
def doors(database: Database) -> Doors:
    return Doors(database)


@pytest.fixture
def platform(doors: Doors) -> Caller:
    return doors.caller(tenant=None)


def test_a_list_tells_of_each_without_its_body_newest_first(doors: Doors, platform: Caller):
    first, second = (
        keep(doors.database),
        keep(doors.database, queue="media", reason=UndeliverableReason.UNDECODABLE, body=b"{"),
    )
    found = platform.get(PATH).json
    assert [item["id"] for item in found["data"]] == [str(second), str(first)]
    assert found["next_cursor"] is None
    told = found["data"][0]
    assert (told["queue"], told["reason"], told["body_bytes"]) == ("media", "undecodable", 1)
    assert not {"body", "headers", "properties"} & told.keys()
    assert told["collected_at"] > told["dead_lettered_at"]


def test_a_list_is_paged_and_filtered(doors: Doors, platform: Caller):
    kept = [str(keep(doors.database, queue=queue)) for queue in ("default", "media") * 3][::-1]
    first = platform.get(f"{PATH}?limit=4").json
    rest = platform.get(f"{PATH}?limit=4&cursor={first['next_cursor']}").json
    assert [item["id"] for item in first["data"] + rest["data"]] == kept
    assert len(platform.get(f"{PATH}?queue=media").json["data"]) == 3
    assert len(platform.get(f"{PATH}?queue=media&reason=foreign").json["data"]) == 3
    assert platform.get(f"{PATH}?reason=undecodable").json["data"] == []
    assert_problem(platform.get(f"{PATH}?reason=bad_luck"), 400, "invalid-request")
    assert_problem(platform.get(f"{PATH}?queue=media&cursor={first['next_cursor']}"), 400, "invalid-cursor")


@pytest.mark.parametrize(
    ("body", "length", "told"),
    [
        (b'{"task": "send_mail"}', 21, ('{"task": "send_mail"}', "utf-8", False)),
        (b"nul\x00", 4, ("nul\x00", "utf-8", False)),
        (b"", 0, ("", "utf-8", False)),
        (b"\xff\x00", 2, (base64.b64encode(b"\xff\x00").decode(), "base64", False)),
        (b"abc\xc3", 4, (base64.b64encode(b"abc\xc3").decode(), "base64", False)),
        (b"abc\xc3", 100_000, ("abc", "utf-8", True)),
        (b"\xff" + b"x" * 9, 100_000, (base64.b64encode(b"\xff" + b"x" * 9).decode(), "base64", True)),
    ],
)
def test_a_message_is_told_with_all_that_is_kept_of_it(
    doors: Doors, platform: Caller, body: bytes, length: int, told: Any
):
    message_id = keep(doors.database, body=body, body_bytes=length)
    found = platform.get(f"{PATH}/{message_id}").json
    assert (found["body"], found["body_encoding"], found["truncated"]) == told
    assert (found["body_bytes"], found["properties"]) == (length, {"app_id": "mailer"})
    assert found["headers"] == {"x-death": [{"reason": "rejected"}]}


def test_a_large_one_fits_into_an_answer(doors: Doors, platform: Caller):
    message_id = keep(doors.database, body=b"\xff" * MOST_BODY_BYTES, body_bytes=2**40)
    assert platform.get(f"{PATH}/{message_id}").json["body_bytes"] == 2**40


def test_one_is_discarded_once_and_the_audit_log_says_what_it_was(doors: Doors, platform: Caller):
    message_id = keep(doors.database)
    assert platform.request("DELETE", f"{PATH}/{message_id}").status_code == 204
    assert_problem(platform.request("DELETE", f"{PATH}/{message_id}"), 404, "not-found")
    assert_problem(platform.get(f"{PATH}/{message_id}"), 404, "not-found")
    entry = platform.get("/v1/audit-log?limit=1").json["data"][0]
    assert (entry["action"], entry["resource"], entry["resource_id"]) == (
        "discard_undeliverable",
        "undeliverable",
        str(message_id),
    )
    assert entry["tenant_id"] is None
    detail = entry["detail"]
    assert (detail["count"], detail["after"]) == (1, None)
    assert (detail["before"]["queue"], detail["before"]["reason"]) == ("default", "foreign")
    assert "body" not in detail["before"]


def test_to_a_tenant_there_are_none(doors: Doors):
    message_id = keep(doors.database)
    admin = doors.caller()
    assert admin.get(PATH).json == {"data": [], "next_cursor": None}
    assert_problem(admin.get(f"{PATH}/{message_id}"), 404, "not-found")
    assert_problem(admin.request("DELETE", f"{PATH}/{message_id}"), 404, "not-found")
    assert doors.caller(tenant=None).get(f"{PATH}/{message_id}").status_code == 200


def test_a_viewer_of_the_platform_discards_none(doors: Doors):
    message_id = keep(doors.database)
    viewer = doors.caller(tenant=None, scopes=ROLES["viewer"])
    assert_problem(viewer.request("DELETE", f"{PATH}/{message_id}"), 403, "forbidden")
    assert viewer.get(f"{PATH}/{message_id}").status_code == 200


@pytest.mark.parametrize("name", ["nonsense", "{}", NOBODY.upper().replace("-", ""), NOBODY])
def test_what_is_no_message_is_not_found(platform: Caller, name: str):
    assert_problem(platform.get(f"{PATH}/{name}"), 404, "not-found")
