from typing import Any

import pytest

from cli import waiting
from cli.failures import Interrupted
from jobmill_client.connection import Connection
from jobmill_client.credentials import Bearer
from tests.scripted import ADDRESS, ID, KEY, Scripted, job, says


def server(*answers: Any) -> tuple[Connection, Scripted]:
    scripted = Scripted(*answers)
    return Connection(ADDRESS, Bearer(KEY), transport=scripted), scripted


@pytest.mark.parametrize("final", ["succeeded", "dead", "cancelled", "discarded"])
def test_a_wait_ends_with_the_job_and_reports_every_look(final):
    seen: list[str] = []
    states = [says(job(state), Retry_After="0") for state in ("queued", "running", final)]
    connection, _ = server(*states)
    answer = waiting.wait(connection, ID, 60, lambda told: seen.append(told["state"]))
    assert answer.document == job(final)
    assert seen == ["queued", "running", final]


def test_a_look_is_held_for_a_second_so_that_progress_is_seen():
    connection, scripted = server(says(job("succeeded")))
    waiting.wait(connection, ID, 60, lambda _: None)
    assert list(scripted.sent("Prefer")) == ["wait=1"]


def test_progress_is_seen_each_second_though_the_server_says_that_the_job_will_be_long():
    seen: list[float] = []
    looks = [
        says(job("running", progress={"percent": percent}), Retry_After="30", Preference_Applied="wait=1")
        for percent in (10, 20)
    ]
    connection, _ = server(*looks, says(job("succeeded", progress={"percent": 100})))
    waiting.wait(connection, ID, 10, lambda told: seen.append(told["progress"]["percent"]))
    assert seen == [10, 20, 100]


def test_ctrl_c_says_that_the_job_goes_on():
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    connection, _ = server(says(job("running")))
    with pytest.raises(Interrupted, match=rf"the job goes on.*jobmill jobs wait {ID}") as failure:
        waiting.wait(connection, ID, 10, interrupt)
    assert failure.value.exit_code == 130
