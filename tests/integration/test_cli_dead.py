"""`jobmill dead` against a real server: an operator's way from a table of groups to an empty one."""

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli import asking
from models import moves
from models.database import Database
from models.moves import Ending
from models.states import State
from tests.commanding import Run, commanding, served
from tests.doors import Caller, Doors
from tests.factories import job_in

TRACE = 'Traceback (most recent call last):\n  File "jobs.py", line 7, in monthly\nKeyError: \x1b[31mred'
ERROR = {"type": "KeyError", "message": "no column 17", "code": "exception", "place": "acme.reports:monthly"}


@pytest.fixture
def caller(sqlite_database: Database) -> Caller:
    return Doors(sqlite_database).caller()


@pytest.fixture
def run(caller: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    with served(caller) as url:
        yield partial(commanding(monkeypatch, url, caller.token), "dead")


def plant(caller: Caller, **columns: Any) -> str:
    error = json.dumps(ERROR | {"trace": TRACE})

    def bury(session: Any) -> str:
        told = {"tenant_id": caller.tenant_id, "type": "test.strict", "args": {"number": 1, "names": ["a"]}, **columns}
        ref = job_in(session, State.RUNNING, **told)
        moves.bury(session, [Ending(ref, error=error, reason="attempts exhausted")], "worker:w")
        return str(ref.id)

    return caller.doors.database.run(bury)


def state_of(caller: Caller, job_id: str) -> str:
    state: str = caller.get(f"/v1/jobs/{job_id}").json["state"]
    return state


def test_the_groups_lead_to_the_letters_and_those_to_the_trace(run: Run, caller: Caller):
    job_id = plant(caller)
    headings, group = run("groups").stdout.splitlines()
    assert headings.split()[:2] == ["GROUP", "COUNT"]
    name = group.split()[0]
    assert "acme.reports:monthly" in group
    assert job_id in run("list", "--group", name).stdout
    shown = run("show", job_id).stdout
    assert f"group        {name}".split() in [line.split() for line in shown.splitlines()]
    assert 'File "jobs.py", line 7, in monthly' in shown
    assert "\\x1b[31mred" in shown


def test_the_list_has_every_filter(run: Run, caller: Caller):
    media, late = plant(caller, queue="media"), plant(caller, type="test.echo")
    for words, found in (
        (["--queue", "media"], [media]),
        (["--type", "test.echo"], [late]),
        (["--error", "KeyError", "--oldest"], [media, late]),
        (["--error", "ValueError"], []),
        (["--died-after", "2020-01-01T00:00:00Z"], [late, media]),
        (["--died-before", "2020-01-01T00:00:00+01:00"], []),
    ):
        listed = json.loads(run("list", *words, "--json").stdout)
        assert [item["id"] for item in listed["data"]] == found, words


def test_an_edit_changes_what_is_named_or_all(run: Run, caller: Caller):
    job_id = plant(caller)
    edited = json.loads(run("edit", job_id, "--arg", "number=2", "--json").stdout)
    assert edited["args"] == {"number": 2, "names": ["a"]}
    assert "number" in run("edit", job_id, "--args", '{"number": 3}').stdout
    assert caller.get(f"/v1/dead-letters/{job_id}").json["args"] == {"number": 3}
    refused = run("edit", job_id, "--arg", "number=x")
    assert refused.exit_code == 1
    assert "/args/number" in refused.stderr
    assert run("edit", job_id).exit_code == 2


def test_one_letter_is_replayed_without_a_question(run: Run, caller: Caller):
    job_id = plant(caller)
    result = run("replay", job_id)
    assert (result.exit_code, result.stderr) == (0, f"{job_id} is queued.\n")
    again = run("replay", job_id)
    assert again.exit_code == 1
    assert "job-not-dead" in again.stderr


def test_several_are_replayed_once_somebody_says_yes(run: Run, caller: Caller):
    letters = [plant(caller) for _ in range(3)]
    asked = run("replay", *letters, *letters[:1], answer="n\n")
    assert asked.exit_code == 1
    assert "This replays 3 dead letters. Go on?" in asked.stderr
    assert {state_of(caller, job_id) for job_id in letters} == {"dead"}
    assert run("replay", *letters, answer="y\n").exit_code == 0
    assert {state_of(caller, job_id) for job_id in letters} == {"queued"}


def test_a_discard_always_asks_and_where_nobody_is_there_says_how_to_go_on(run: Run, caller: Caller):
    job_id = plant(caller)
    alone = run("discard", job_id)
    assert alone.exit_code == 1
    assert "This discards 1 dead letter for good. Nobody is here to be asked: add --yes." in alone.stderr
    assert run("discard", job_id, answer="\n").exit_code == 1
    assert state_of(caller, job_id) == "dead"
    assert json.loads(run("discard", job_id, "--yes", "--json").stdout)["state"] == "discarded"


def test_of_several_each_is_told_what_became_of_it(run: Run, caller: Caller):
    first, second = plant(caller), plant(caller)
    run("discard", first, "--yes")
    result = run("discard", first, second, "--yes")
    assert result.exit_code == 1
    assert f"{second} is discarded." in result.stderr
    assert f"{first} is left as it is:\n  The job is no dead letter (409 job-not-dead)\n" in result.stderr
    assert "Error: 1 of 2 were left as they are." in result.stderr
    assert state_of(caller, second) == "discarded"


def test_who_is_asked_is_a_person_at_a_terminal(monkeypatch: pytest.MonkeyPatch):
    controller, terminal = os.openpty()
    for opened, attended in ((Path(os.ttyname(terminal)), True), (Path(os.devnull), False)):
        with opened.open() as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            assert asking.is_attended() is attended
    os.close(controller)
    os.close(terminal)
