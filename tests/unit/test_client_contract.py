"""The client knows every member of what it sends and reads, as docs/openapi.json has them."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobmill_client import (
    DeadGroup,
    DeadLetter,
    Event,
    Explanation,
    Failure,
    Job,
    JobType,
    NewWebhookEndpoint,
    Progress,
    Queue,
    Reason,
    RotatedSecret,
    Submission,
    Undeliverable,
    WebhookDelivery,
    WebhookEndpoint,
    WholeDeadLetter,
    WholeUndeliverable,
    Worker,
)
from jobmill_client.client import Filters
from jobmill_client.dead_letters import Attempt, AttemptFailure, DeadFilters
from jobmill_client.queues import Limits, QueueCounts
from jobmill_client.submissions import Options
from jobmill_client.webhooks import EndpointChanges, EndpointOptions, JobWebhook, RotationOptions

API = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))


def members(schema: str) -> set[str]:
    return set(API["components"]["schemas"][schema]["properties"])


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (Job, "Job"),
        (Failure, "Error"),
        (Progress, "Progress"),
        (Event, "Event"),
        (Explanation, "Explanation"),
        (Reason, "Reason"),
        (JobType, "JobType"),
        (Worker, "Worker"),
        (DeadLetter, "DeadLetter"),
        (WholeDeadLetter, "WholeDeadLetter"),
        (Attempt, "Attempt"),
        (AttemptFailure, "AttemptError"),
        (DeadGroup, "DeadGroup"),
        (Queue, "Queue"),
        (QueueCounts, "QueueCounts"),
        (Undeliverable, "Undeliverable"),
        (WholeUndeliverable, "WholeUndeliverable"),
        (WebhookEndpoint, "WebhookEndpoint"),
        (NewWebhookEndpoint, "NewWebhookEndpoint"),
        (RotatedSecret, "RotatedSecret"),
        (WebhookDelivery, "WebhookDelivery"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.__name__,
)
def test_every_member_is_known_by_its_name(model: Any, schema: str):
    assert {field.alias or name for name, field in model.model_fields.items()} == members(schema)


@pytest.mark.parametrize(
    ("options", "schema"),
    [
        (Limits, "LimitsBody"),
        (EndpointChanges, "EndpointChange"),
        (RotationOptions, "RotateOwnBody"),
        (JobWebhook, "JobWebhook"),
    ],
)
def test_all_that_may_be_asked_for_can_be_given(options: Any, schema: str):
    assert set(options.__annotations__) == members(schema)


def test_all_that_may_be_said_of_a_new_endpoint_can_be_given():
    assert {"url", *EndpointOptions.__annotations__} == members("EndpointBody")


def test_every_member_of_a_submission_is_known_by_its_name():
    assert set(Submission.model_fields) == members("SubmitBody.demo.echo") | {"idempotency_key"}


def test_every_option_of_a_submission_can_be_given():
    assert {"type", "args", *Options.__annotations__} == set(Submission.model_fields)


@pytest.mark.parametrize(("path", "filters"), [("/v1/jobs", Filters), ("/v1/dead-letters", DeadFilters)])
def test_every_filter_of_a_list_can_be_given(path: str, filters: Any):
    asked = {parameter["name"] for parameter in API["paths"][path]["get"]["parameters"] if parameter["in"] == "query"}
    by_pages = {"limit", "cursor", "fields"}
    assert {*filters.__annotations__} - {"tags"} == {name for name in asked if not name.startswith("tag")} - by_pages
