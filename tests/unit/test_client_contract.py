"""The client knows every member of what it sends and reads, as docs/openapi.json has them."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobmill_client import (
    DeadGroup,
    DeadLetter,
    Event,
    Failure,
    Job,
    JobType,
    Progress,
    Submission,
    WholeDeadLetter,
    Worker,
)
from jobmill_client.client import Filters
from jobmill_client.dead_letters import Attempt, AttemptFailure, DeadFilters
from jobmill_client.submissions import Options

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
        (JobType, "JobType"),
        (Worker, "Worker"),
        (DeadLetter, "DeadLetter"),
        (WholeDeadLetter, "WholeDeadLetter"),
        (Attempt, "Attempt"),
        (AttemptFailure, "AttemptError"),
        (DeadGroup, "DeadGroup"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.__name__,
)
def test_every_member_is_known_by_its_name(model: Any, schema: str):
    assert {field.alias or name for name, field in model.model_fields.items()} == members(schema)


def test_every_member_of_a_submission_is_known_by_its_name():
    assert set(Submission.model_fields) == members("SubmitBody.demo.echo") | {"idempotency_key"}


def test_every_option_of_a_submission_can_be_given():
    assert {"type", "args", *Options.__annotations__} == set(Submission.model_fields)


@pytest.mark.parametrize(("path", "filters"), [("/v1/jobs", Filters), ("/v1/dead-letters", DeadFilters)])
def test_every_filter_of_a_list_can_be_given(path: str, filters: Any):
    asked = {parameter["name"] for parameter in API["paths"][path]["get"]["parameters"] if parameter["in"] == "query"}
    by_pages = {"limit", "cursor", "fields"}
    assert {*filters.__annotations__} - {"tags"} == {name for name in asked if not name.startswith("tag")} - by_pages
