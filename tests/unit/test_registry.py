"""What a declaration may say of isolation; the rest of declaring is tested where types are used."""

from typing import Any

import pytest
from pydantic import BaseModel

from api.documents import job_type_document
from jobs.registry import BadJobType, Isolation, JobType, Registry, job


class Args(BaseModel):
    pass


def declared(**given: Any) -> JobType:
    own = Registry()

    @job("acme.thumbnail", into=own, **given)
    def handler(args: Args) -> None:
        """Nothing."""

    return own.get("acme.thumbnail")


def test_handlers_run_on_threads_unless_they_ask():
    known = declared()
    assert (known.isolation, known.memory_limit_mb, known.cpu_limit_seconds) == (Isolation.THREAD, None, None)


def test_a_process_may_have_limits_and_clients_see_them():
    known = declared(isolation="process", memory_limit_mb=512, cpu_limit_seconds=60)
    assert known.isolation is Isolation.PROCESS
    document = job_type_document(known)
    assert [document[name] for name in ("isolation", "memory_limit_mb", "cpu_limit_seconds")] == ["process", 512, 60]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"isolation": "container"}, "'thread' or 'process', not 'container'"),
        ({"isolation": True}, "not True"),
        ({"memory_limit_mb": 512}, "need isolation='process'"),
        ({"isolation": "thread", "cpu_limit_seconds": 5}, "need isolation='process'"),
        ({"isolation": "process", "memory_limit_mb": 15}, "memory_limit_mb is a whole number from 16 to"),
        ({"isolation": "process", "memory_limit_mb": 512.5}, "not 512.5"),
        ({"isolation": "process", "memory_limit_mb": True}, "not True"),
        ({"isolation": "process", "cpu_limit_seconds": 0}, "cpu_limit_seconds is a whole number from 1 to"),
        ({"isolation": "process", "cpu_limit_seconds": "60"}, "not '60'"),
    ],
)
def test_a_wrong_declaration_says_what_to_change(given: dict[str, Any], told: str):
    with pytest.raises(BadJobType, match=r"acme\.thumbnail: ") as refused:
        declared(**given)
    assert told in str(refused.value)
