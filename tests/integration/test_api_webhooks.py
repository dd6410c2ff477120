"""Webhook endpoints over HTTP: what may be one, who keeps it, and how its secrets are rotated."""

from typing import Any, get_args

import pytest

from api.webhook_forms import Event
from jobs.scopes import Scope
from jobs.signing import key_of
from jobs.webhooks import MOST_ENDPOINTS, SUBSCRIBED, USUAL_EVENTS
from models import webhook_endpoints
from models.dialect import POSTGRESQL, SQLITE
from models.ids import new_id
from models.states import State
from tests.doors import DELIVERIES, ENDPOINTS, JOBS, Caller, Doors, assert_problem
from tests.factories import ago
from tests.mishaps import LosesAnswers
from tests.webhooked import URL, delivery, found, make, patch, read, signs_now

SECRET = "/v1/webhook-secret/rotate"  # noqa: S105 - an address
DEAD = "/v1/dead-letters"
LOG = "/v1/audit-log"


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


# Making endpoints


def test_a_new_endpoint_is_told_the_usual_three_of_every_type(caller: Caller):
    made = make(caller)
    assert made["events"] == list(USUAL_EVENTS)
    assert (made["types"], made["description"], made["enabled"]) == (None, "", True)
    assert (made["disabled_reason"], made["failing_since"], made["held_until"]) == (None, None, None)
    assert made["created_by"].startswith("key:")


def test_an_endpoint_is_kept_as_it_was_asked_for(caller: Caller):
    asked = {
        "url": "https://hooks.example.com:8443/in?for=us",
        "events": ["job.discarded", "job.dead"],
        "types": ["csv.*", "http.request"],
        "description": "Über uns",
        "enabled": False,
    }
    assert asked.items() <= read(caller, make(caller, **asked)).items()


def test_the_secret_is_shown_once_and_told_in_no_log(caller: Caller):
    made = make(caller)
    assert len(key_of(made.pop("secret"))) == 32
    assert read(caller, made) == made
    [entry] = caller.get(LOG).json["data"]
    assert (entry["action"], entry["resource_id"]) == ("create_webhook_endpoint", made["id"])
    assert "whsec_" not in caller.get(LOG).text + caller.get(ENDPOINTS).text


def test_the_events_of_the_form_are_those_that_are_told():
    assert get_args(Event) == SUBSCRIBED


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"events": []}, "/events"),
        ({"events": ["job.dead", "job.dead"]}, "/events"),
        ({"events": ["webhook.test"]}, "/events/0"),
        ({"events": None}, "/events"),
        ({"types": []}, "/types"),
        ({"types": ["csv.*", "csv.*"]}, "/types"),
        ({"types": ["csv.[a-z]"]}, "/types/0"),
        ({"types": [f"t{number}" for number in range(51)]}, "/types"),
        ({"description": "x" * 501}, "/description"),
        ({"description": None}, "/description"),
        ({"enabled": "yes"}, "/enabled"),
        ({"enabled": None}, "/enabled"),
        ({"url": None}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": f"https://example.com/{'x' * 2048}"}, "/url"),
        ({"secret": "whsec_mine"}, "/secret"),
    ],
)
@pytest.mark.parametrize("change", [False, True], ids=["new", "changed"])
def test_what_cannot_be_an_endpoint_is_refused_at_its_place(
    caller: Caller, members: dict[str, Any], pointer: str, change: bool
):
    made = make(caller)
    sent = {"url": URL, **members}
    answer = patch(caller, f"{ENDPOINTS}/{made['id']}", sent) if change else caller.post(ENDPOINTS, sent)
    problem = assert_problem(answer, 400, "invalid-request")
    assert pointer in {flaw["pointer"] for flaw in problem["errors"]}
    assert len(caller.get(ENDPOINTS).json["data"]) == 1


HOSTILE = {
    "http://hooks.example.com/": "https://",
    "ftp://hooks.example.com/": "https://",
    "hooks": "https://",
    "https://user:word@hooks.example.com/": "user name",
    "https://127.0.0.1/": "loopback",
    "https://2130706433/": "loopback",
    "https://0x7f.1/": "loopback",
    "https://[::1]/": "global unicast",
    "https://[::ffff:10.0.0.1]/": "private",
    "https://169.254.169.254/latest/meta-data": "link-local",
    "https://hooks.example.com:0/": "port",
    "https://hooks.example.com\\@127.0.0.1/": "backslash",
}


@pytest.mark.parametrize(("url", "why"), HOSTILE.items(), ids=list(HOSTILE))
def test_a_url_that_leads_inside_is_refused_when_it_is_saved(caller: Caller, url: str, why: str):
    made = make(caller)
    submitted = {"type": "test.echo", "webhook": {"url": url}}
    for answer, pointer in (
        (caller.post(ENDPOINTS, {"url": url}), "/url"),
        (patch(caller, f"{ENDPOINTS}/{made['id']}", {"url": url}), "/url"),
        (caller.post(JOBS, submitted), "/webhook/url"),
    ):
        [flaw] = assert_problem(answer, 400, "invalid-request")["errors"]
        assert (flaw["pointer"], flaw["code"]) == (pointer, "address-refused")
        assert why in flaw["detail"]
    [item] = caller.post(f"{JOBS}/batch", {"jobs": [submitted]}).json["data"]
    assert item["problem"]["errors"][0]["pointer"] == "/jobs/0/webhook/url"
    assert read(caller, made)["url"] == URL


def test_what_is_wrong_with_a_url_is_told_with_all_else(caller: Caller):
    problem = assert_problem(caller.post(ENDPOINTS, {"url": "https://10.0.0.1/", "evnts": []}), 400, "invalid-request")
    assert {flaw["pointer"] for flaw in problem["errors"]} == {"/url", "/evnts"}
    submitted = {"type": "test.echo", "priority": 1000, "webhook": {"url": "https://10.0.0.1/"}}
    problem = assert_problem(caller.post(JOBS, submitted), 400, "invalid-request")
    assert {flaw["pointer"] for flaw in problem["errors"]} == {"/webhook/url", "/priority"}


def test_the_settings_open_what_they_name(doors: Doors):
    opened = Doors(doors.database, webhook_allowed_networks="127.0.0.0/8", webhook_allow_http=True).caller()
    assert make(opened, url="http://127.0.0.1:9000/in")["url"] == "http://127.0.0.1:9000/in"
    assert_problem(opened.post(ENDPOINTS, {"url": "http://10.0.0.1/"}), 400, "invalid-request")
    opened.submit(webhook={"url": "http://127.0.0.1:9000/in"})


def test_a_tenant_has_so_many_endpoints_and_no_more(caller: Caller):
    assert caller.tenant_id is not None
    told = {"url": URL, "events": ["job.dead"], "types": None, "description": "", "enabled": True, "created_by": "test"}
    with caller.doors.database.transaction() as session:
        for _ in range(MOST_ENDPOINTS - 1):
            webhook_endpoints.add(session, new_id(), caller.tenant_id, **told)
    last = make(caller)
    assert_problem(caller.post(ENDPOINTS, {"url": URL}), 409, "too-many-endpoints")
    assert caller.request("DELETE", f"{ENDPOINTS}/{last['id']}").status_code == 204
    make(caller)


@pytest.mark.parametrize("path", [ENDPOINTS, SECRET])
def test_a_platform_key_says_whose_and_a_tenants_does_not(doors: Doors, caller: Caller, path: str):
    body = {"url": URL} if path == ENDPOINTS else {}
    platform = doors.caller(tenant=None)
    owner = doors.caller("hooked")
    for told, code in (({}, "missing"), ({"tenant": None}, "missing"), ({"tenant": "nobody"}, "unknown-tenant")):
        [flaw] = assert_problem(platform.post(path, body | told), 400, "invalid-request")["errors"]
        assert (flaw["pointer"], flaw["code"]) == ("/tenant", code)
    answer = platform.post(path, body | {"tenant": "hooked"})
    assert answer.status_code in {200, 201}, answer.text
    assert_problem(caller.post(path, body | {"tenant": "hooked"}), 403, "forbidden")
    entry = owner.get(LOG).json["data"][0]
    assert entry["tenant_id"] == str(owner.tenant_id)


def test_endpoints_are_listed_by_pages_newest_first(caller: Caller):
    made = [make(caller)["id"] for _ in range(5)]
    listed, path = [], f"{ENDPOINTS}?limit=2"
    while path:
        page = caller.get(path).json
        listed += [one["id"] for one in page["data"]]
        path = f"{ENDPOINTS}?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert listed == made[::-1]


# Changing and deleting them


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://other.example.com/"},
        {"events": ["job.discarded"]},
        {"types": ["demo.*"]},
        {"types": None},
        {"description": "Another"},
        {},
    ],
    ids=["url", "events", "types", "all types", "description", "nothing"],
)
def test_what_is_told_is_changed_and_nothing_else(caller: Caller, change: dict[str, Any]):
    made = make(caller, types=["csv.*"], description="As it was")
    before = read(caller, made)
    answer = patch(caller, f"{ENDPOINTS}/{made['id']}", change)
    assert (answer.status_code, answer.json) == (200, before | change)
    assert read(caller, made) == before | change
    detail = caller.get(LOG).json["data"][0]["detail"]
    assert {name: detail["after"][name] for name in change} == change
    assert detail["before"]["description"] == "As it was"


def test_an_endpoint_that_is_enabled_again_begins_afresh(caller: Caller):
    made = make(caller)
    path = f"{ENDPOINTS}/{made['id']}"
    found(caller, made["id"], unanswered=6, failing_since=ago(days=2), closed_until=ago(minutes=-5))
    failing = read(caller, made)
    assert failing["failing_since"] < failing["held_until"]
    assert caller.get(ENDPOINTS).json["data"] == [failing]
    disabled = patch(caller, path, {"enabled": False}).json
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "It was disabled by hand.")
    patch(caller, path, {"enabled": True})
    fine = read(caller, made)
    assert (fine["enabled"], fine["disabled_reason"], fine["failing_since"], fine["held_until"]) == (
        True, None, None, None,
    )  # fmt: skip


def test_a_gate_that_is_open_again_holds_nothing(caller: Caller):
    made = make(caller)
    found(caller, made["id"], unanswered=6, failing_since=ago(days=2), closed_until=ago(seconds=1))
    assert read(caller, made)["held_until"] is None


def test_deleting_an_endpoint_cancels_what_waits_and_keeps_what_was_delivered(caller: Caller):
    made = make(caller)
    waits, done = (delivery(caller, state, made["id"]) for state in (State.QUEUED, State.SUCCEEDED))
    answer = caller.request("DELETE", f"{ENDPOINTS}/{made['id']}")
    assert (answer.status_code, answer.text) == (204, "")
    statuses = [caller.get(f"{DELIVERIES}/{one}").json["status"] for one in (waits, done)]
    assert statuses == ["cancelled", "delivered"]
    assert signs_now(caller, made["id"]) == []
    assert_problem(caller.request("DELETE", f"{ENDPOINTS}/{made['id']}"), 404, "not-found")
    assert_problem(caller.post(f"{DELIVERIES}/{done}/redeliver"), 404, "not-found")


@pytest.mark.parametrize(
    "text", ["nothing", "{01936f6e-2f5c-7a2b-9c3d-5e8f1a2b3c4d}", "01936f6e2f5c7a2b9c3d5e8f1a2b3c4d"]
)
def test_what_is_no_id_names_nothing(caller: Caller, text: str):
    assert_problem(caller.get(f"{ENDPOINTS}/{text}"), 404, "not-found")
    assert_problem(caller.get(f"{DELIVERIES}/{text}"), 404, "not-found")
    assert_problem(caller.get(f"{DELIVERIES}?job_id={text}"), 400, "invalid-request")
    assert_problem(caller.get(f"{DEAD}?endpoint_id={text}"), 400, "invalid-request")


# Secrets


def test_while_secrets_overlap_both_sign(caller: Caller):
    made = make(caller)
    path = f"{ENDPOINTS}/{made['id']}/rotate-secret"
    rotated = caller.post(path, {}).json
    assert signs_now(caller, made["id"]) == [rotated["secret"], made["secret"]]
    kept = caller.get(LOG).json["data"][0]
    assert kept["detail"] == {
        "overlap_seconds": 86400,
        "previous_valid_until": rotated["previous_valid_until"],
    }
    assert "whsec_" not in caller.get(LOG).text
    at_once = caller.post(path, {"overlap_seconds": 0}).json
    assert at_once["previous_valid_until"] is None
    assert signs_now(caller, made["id"]) == [at_once["secret"]]


@pytest.mark.parametrize("seconds", [-1, 604_801, 1.5, "60", None])
def test_an_overlap_is_a_week_at_most(caller: Caller, seconds: Any):
    made = make(caller)
    for path in (f"{ENDPOINTS}/{made['id']}/rotate-secret", SECRET):
        problem = assert_problem(caller.post(path, {"overlap_seconds": seconds}), 400, "invalid-request")
        assert problem["errors"][0]["pointer"] == "/overlap_seconds"


def test_the_tenants_own_secret_is_rotated_apart(caller: Caller):
    made = make(caller)
    first = caller.post(SECRET, {}).json
    assert first["previous_valid_until"] is None
    second = caller.post(SECRET, {"overlap_seconds": 60}).json
    assert second["previous_valid_until"] is not None
    assert signs_now(caller, None) == [second["secret"], first["secret"]]
    assert signs_now(caller, made["id"]) == [made["secret"]]


def test_what_was_done_before_its_answer_was_lost_is_done_once(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    """The secret of the first try is that of the answer; of one wish come one endpoint, one delivery, one entry."""
    losing = LosesAnswers(caller.doors.database)
    monkeypatch.setattr(caller.doors.services, "database", losing)

    def once(answer: Any) -> Any:
        assert losing.times == 0
        assert answer.status_code in {200, 201, 202, 204}, answer.text
        return answer.json

    losing.times = 1
    made = once(caller.post(ENDPOINTS, {"url": URL}))
    path = f"{ENDPOINTS}/{made['id']}"
    assert signs_now(caller, made["id"]) == [made["secret"]]
    assert len(caller.get(ENDPOINTS).json["data"]) == 1
    losing.times = 1
    rotated = once(caller.post(f"{path}/rotate-secret", {}))
    assert signs_now(caller, made["id"]) == [rotated["secret"], made["secret"]]
    losing.times = 1
    tested = once(caller.post(f"{path}/test"))
    assert [one["id"] for one in caller.get(f"{path}/deliveries").json["data"]] == [tested["id"]]
    done = delivery(caller, State.SUCCEEDED, made["id"])
    losing.times = 1
    again = once(caller.post(f"{DELIVERIES}/{done}/redeliver"))
    assert {one["id"] for one in caller.get(f"{path}/deliveries").json["data"]} == {tested["id"], done, again["id"]}
    losing.times = 1
    own = once(caller.post(SECRET, {}))
    assert signs_now(caller, None) == [own["secret"]]
    losing.times = 1
    once(caller.request("DELETE", path))
    assert [entry["action"] for entry in caller.get(LOG).json["data"]] == [
        "delete_webhook_endpoint",
        "rotate_webhook_secret",
        "redeliver_webhook",
        "test_webhook_endpoint",
        "rotate_webhook_endpoint_secret",
        "create_webhook_endpoint",
    ]


def test_whoever_reads_webhooks_does_not_change_them(doors: Doors):
    reader = doors.caller(scopes=[Scope.WEBHOOKS_READ])
    assert reader.get(ENDPOINTS).status_code == reader.get(DELIVERIES).status_code == 200
    assert_problem(reader.post(ENDPOINTS, {"url": URL}), 403, "forbidden")
