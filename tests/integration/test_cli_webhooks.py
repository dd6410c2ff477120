"""`jobmill webhooks` and the client against a real server: endpoints are looked after, deliveries sent again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from jobmill_client import Client, InvalidRequest, NotFound
from models.database import Database
from models.ids import new_id
from tests.commanding import Run, commanding, served
from tests.doors import Caller, Doors

URL = "https://hooks.example.org/in"
SHOWN_ONCE = "Keep the secret now: it is shown this once.\n"


@pytest.fixture
def caller(sqlite_database: Database) -> Caller:
    return Doors(sqlite_database).caller()


@pytest.fixture
def url(caller: Caller) -> Iterator[str]:
    with served(caller) as address:
        yield address


@pytest.fixture
def run(caller: Caller, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    command = commanding(monkeypatch, url, caller.token)

    def invoke(*args: str, group: str = "webhooks", **more: Any) -> Result:
        return command(group, *args, **more)

    return invoke


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def made(run: Run, *args: str) -> str:
    return str(document(run("create", URL, *args, "--json"))["id"])


def shown(result: Result) -> dict[str, str]:
    """The lines of one thing, by their names."""
    assert result.exit_code == 0, result.output
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if " " in line}


def test_an_endpoint_is_made_and_its_secret_shown_this_once(run: Run):
    created = run("create", URL, "--event", "job.dead", "--type", "csv.*", "--description", "on call")
    told = shown(created)
    assert told["secret"].startswith("whsec_")
    assert created.stderr == SHOWN_ONCE
    assert (told["url"], told["events"], told["types"]) == (URL, "job.dead", "csv.*")
    seen = [run("get", told["id"]), run("get", told["id"], "--json"), run("list"), run("list", "--json")]
    assert not any("secret" in one.output or told["secret"] in one.output for one in seen)
    header, row = run("list").stdout.splitlines()
    assert header.split()[:2] == ["ID", "ENABLED"]
    assert row.split() == [told["id"], "enabled", "-", "-", "job.dead", "csv.*", URL, "on", "call"]


def test_what_is_not_said_of_an_endpoint_is_usual(run: Run):
    told = shown(run("create", URL))
    assert (told["events"], told["types"]) == ("job.succeeded job.dead job.cancelled", "all")
    assert shown(run("create", URL, "--disabled"))["enabled"] == "disabled"


def test_an_endpoint_is_changed_and_what_is_not_given_stays(run: Run):
    endpoint = made(run, "--type", "csv.*", "--description", "on call")
    changed = shown(run("update", endpoint, "--new-url", f"{URL}/2", "--event", "job.dead"))
    assert (changed["url"], changed["events"]) == (f"{URL}/2", "job.dead")
    assert (changed["types"], changed["description"]) == ("csv.*", "on call")
    assert document(run("update", endpoint, "--all-types", "--description", "", "--json"))["types"] is None
    assert "description" not in shown(run("get", endpoint))


@pytest.mark.parametrize(
    "words",
    [
        ("update", str(new_id())),
        ("update", str(new_id()), "--all-types", "--type", "csv.*"),
        ("rotate-secret",),
        ("rotate-secret", str(new_id()), "--for-jobs"),
        ("rotate-secret", str(new_id()), "--tenant", "acme"),
        ("rotate-secret", "--for-jobs", "--overlap-seconds", "604801"),
        ("deliveries", str(new_id()), "--job", str(new_id())),
        ("get", "one"),
    ],
    ids=["nothing", "types", "whose", "both", "tenant", "overlap", "deliveries", "id"],
)
def test_words_that_make_no_sense_are_wrong_usage(run: Run, words: tuple[str, ...]):
    assert run(*words).exit_code == 2


def test_endpoints_are_disabled_and_enabled_again(run: Run):
    first, second = made(run), made(run)
    assert run("disable", first, second).stderr == f"{first} is disabled.\n{second} is disabled.\n"
    assert shown(run("get", first))["disabled_reason"] == "It was disabled by hand."
    assert document(run("enable", first, "--json"))["enabled"] is True
    assert "disabled_reason" not in shown(run("get", first))


def test_endpoints_are_deleted_once_somebody_has_said_yes(run: Run):
    endpoint = made(run)
    unasked = run("delete", endpoint)
    assert (unasked.exit_code, "This deletes 1 webhook endpoint for good." in unasked.stderr) == (1, True)
    assert run("delete", endpoint, answer="n\n").exit_code == 1
    assert run("delete", endpoint, answer="y\n").stderr.endswith(f"{endpoint} is deleted.\n")
    assert run("get", endpoint).exit_code == 1
    again = run("delete", endpoint, "--yes")
    assert (again.exit_code, "is left as it is" in again.stderr) == (1, True)


def test_a_secret_is_rotated_and_shown_this_once(run: Run):
    endpoint = made(run)
    rotated = run("rotate-secret", endpoint, "--overlap-seconds", "60")
    told = shown(rotated)
    assert told["secret"].startswith("whsec_")
    assert told["previous_valid_until"].endswith("Z")
    assert rotated.stderr == SHOWN_ONCE
    of_jobs = document(run("rotate-secret", "--for-jobs", "--json"))
    assert of_jobs["secret"] not in {told["secret"], ""}


def test_a_test_event_is_sent_looked_at_and_sent_again(run: Run):
    endpoint = made(run)
    tested = run("test", endpoint)
    delivery = shown(tested)["id"]
    assert tested.stderr == f"See what comes of it: jobmill webhooks delivery {delivery}\n"
    assert shown(run("delivery", delivery))["event"] == "webhook.test"
    header, row = run("deliveries", endpoint).stdout.splitlines()
    assert header.split()[:4] == ["ID", "EVENT", "TO", "JOB_ID"]
    assert row.split()[:6] == [delivery, "webhook.test", endpoint, "-", "waiting", "0/10"]
    assert document(run("redeliver", delivery, "--json"))["id"] == delivery
    assert len(document(run("deliveries", "--json"))["data"]) == 1


def test_the_deliveries_of_a_job_are_found_to_whomever_they_go(run: Run):
    endpoint = made(run)
    words = ("--webhook", f"{URL}/mine", "--webhook-event", "job.cancelled", "--delay", "60", "--json")
    job = document(run("submit", "test.echo", *words, group="jobs"))["id"]
    assert run("cancel", job, group="jobs").exit_code == 0
    found = document(run("deliveries", "--job", job, "--json"))["data"]
    assert {(one["endpoint_id"], one["url"]) for one in found} == {(endpoint, None), (None, f"{URL}/mine")}
    assert len({one["event_id"] for one in found}) == 1
    assert document(run("deliveries", "--job", str(new_id()), "--json"))["data"] == []


def test_events_of_a_webhook_without_its_url_are_wrong_usage(run: Run):
    assert run("submit", "test.echo", "--webhook-event", "job.dead", group="jobs").exit_code == 2


def test_a_url_that_is_not_called_is_refused_and_told_why(run: Run):
    refused = run("create", "https://127.0.0.1/")
    assert refused.exit_code == 1
    assert "/url" in refused.stderr
    assert "loopback" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [("get",), ("test",), ("rotate-secret",), ("delivery",), ("redeliver",), ("disable",)],
    ids=lambda it: it[0],
)
def test_what_is_not_there_or_is_another_tenant_s_is_said_not_to_be(run: Run, words: tuple[str, ...], caller: Caller):
    assert run(*words, str(new_id())).exit_code == 1
    endpoint = made(run)
    assert run(*words, endpoint, key=caller.doors.caller().token).exit_code == 1


def test_the_dead_deliveries_of_an_endpoint_are_asked_for(run: Run):
    endpoint = made(run)
    assert document(run("list", "--endpoint", endpoint, "--json", group="dead"))["data"] == []
    preview = document(run("start", "--endpoint", endpoint, "--dry-run", "--json", group="redrive"))
    assert preview["matched"] == 0


def test_the_client_does_the_same(url: str, caller: Caller):
    with Client(url, caller.token) as client:
        endpoints, deliveries = client.webhook_endpoints, client.webhook_deliveries
        endpoint = endpoints.create(URL, types=["csv.*"], description="on call")
        assert endpoint.secret.startswith("whsec_")
        assert endpoint.secret not in repr(endpoint)
        changed = endpoints.update(endpoint.id, types=None, enabled=False)
        assert (changed.types, changed.enabled, changed.description) == (None, False, "on call")
        assert [one.id for one in endpoints.list()] == [endpoints.get(endpoint.id).id] == [endpoint.id]
        assert endpoints.rotate_secret(endpoint.id).secret != endpoint.secret
        assert deliveries.rotate_secret(overlap_seconds=0).secret not in {endpoint.secret, ""}
        tested = endpoints.test(endpoint.id)
        assert (tested.event, tested.delivered) == ("webhook.test", False)
        assert [one.id for one in endpoints.deliveries(endpoint.id)] == [one.id for one in deliveries.list()]
        assert deliveries.get(tested.id).id == deliveries.redeliver(tested.id).id == tested.id
        job = client.submit("test.echo", delay_seconds=60, webhook={"url": URL, "events": ["job.cancelled"]})
        job.cancel()
        (told,) = deliveries.list(job_id=job.id)
        assert (told.url, told.event) == (URL, "job.cancelled")
        with pytest.raises(InvalidRequest):
            endpoints.create("http://127.0.0.1/")
        endpoints.delete(endpoint.id)
        with pytest.raises(NotFound):
            endpoints.delete(endpoint.id)
