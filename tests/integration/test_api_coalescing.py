"""Submissions and keys of several clients in one statement: each is answered as if he had come alone."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from api import coalescer
from api.coalescer import Coalescer
from jobs import api_keys, submit
from models import identity, moves
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Trouble, Unavailable, Unstorable
from models.job import NewJob
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import blocked, new_job
from tests.mishaps import LosesAnswers

DEADLINE = 10.0


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


class Held:
    """Keeps the next question out until it is let go; `sizes` are how many were asked for at once, from then on."""

    def __init__(self, coalescing: Coalescer[Any, Any], eventually: Callable[..., Any]) -> None:
        self.sizes: list[int] = []
        self._coalescer, self._ask, self._eventually = coalescing, coalescing._ask, eventually
        self._out, self._go_on = threading.Event(), threading.Event()
        coalescing._ask = self._slow

    def _slow(self, asked: Sequence[Any]) -> Sequence[Any]:
        self.sizes.append(len(asked))
        if len(self.sizes) == 1:
            self._out.set()
            assert self._go_on.wait(DEADLINE)
        return self._ask(asked)

    def come(self, many: int) -> None:
        """Return once the question is out and so many others wait for its end."""
        assert self._out.wait(DEADLINE)
        self._eventually(lambda: len(self._coalescer._waiting) == many)

    def let_go(self) -> None:
        self._go_on.set()

    def undo(self) -> None:
        self.let_go()
        self._coalescer._ask = self._ask


@pytest.fixture
def hold(
    eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Coalescer[Any, Any]], Held]]:
    """`hold(coalescer)` keeps its next question out; those who wait for its end are patient."""
    monkeypatch.setattr(coalescer, "PATIENCE_SECONDS", DEADLINE)
    holding: list[Held] = []

    def held(coalescing: Coalescer[Any, Any]) -> Held:
        holding.append(Held(coalescing, eventually))
        return holding[-1]

    yield held
    for one in holding:
        one.undo()


@pytest.fixture
def together(hold: "Hold") -> "Sent":
    """`together(doors, *submissions)`, each by a caller, with a body and headers: they come one after the other, while
    that of somebody else is out; gives their answers, and how many were asked for at once."""

    def sent(doors: Doors, *submissions: tuple[Caller, Any, dict[str, str]]) -> tuple[list[TestResponse], list[int]]:
        first = doors.caller()
        with ThreadPoolExecutor(len(submissions) + 1) as threads:
            held = hold(doors.services.submissions)
            threads.submit(first.post, JOBS, echo(0))
            held.come(0)
            answers = []
            for number, (caller, body, headers) in enumerate(submissions, 1):
                answers.append(threads.submit(caller.post, JOBS, body, **headers))
                held.come(number)
            held.let_go()
        return [answer.result(DEADLINE) for answer in answers], held.sizes

    return sent


Sent = Callable[..., tuple[list[TestResponse], list[int]]]
Hold = Callable[[Coalescer[Any, Any]], Held]


def echo(value: Any) -> dict[str, Any]:
    return {"type": "test.echo", "args": {"value": value}}


def test_submissions_of_one_moment_are_one_statement_and_each_is_answered_its_own(doors: Doors, together: Sent):
    caller = doors.caller()
    answers, sizes = together(doors, *((caller, echo(number), {}) for number in range(5)))
    assert [answer.status_code for answer in answers] == [202] * 5
    assert [answer.json["args"]["value"] for answer in answers] == [0, 1, 2, 3, 4]
    assert [caller.get(f"{JOBS}/{answer.json['id']}").json["args"]["value"] for answer in answers] == [0, 1, 2, 3, 4]
    assert sizes == [1, 5]


def test_of_one_tenant_the_same_request_twice_is_one_job_and_another_body_is_refused(doors: Doors, together: Sent):
    caller = doors.caller()
    answers, _ = together(doors, *((caller, echo(value), {"Idempotency_Key": "k"}) for value in ("a", "a", "b")))
    first, second, other = answers
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json["id"] == second.json["id"]
    assert (first.headers.get("Idempotency-Replayed"), second.headers["Idempotency-Replayed"]) == (None, "true")
    assert_problem(other, 422, "idempotency-key-reused")


def test_two_tenants_with_one_idempotency_key_have_a_job_each_and_see_only_their_own(doors: Doors, together: Sent):
    ours, theirs = doors.caller(), doors.caller()
    for replayed in (None, "true"):
        (one, two), _ = together(
            doors, *((caller, echo(str(caller.tenant_id)), {"Idempotency_Key": "k"}) for caller in (ours, theirs))
        )
        assert one.json["id"] != two.json["id"]
        assert [answer.json["args"]["value"] for answer in (one, two)] == [str(ours.tenant_id), str(theirs.tenant_id)]
        assert [answer.headers.get("Idempotency-Replayed") for answer in (one, two)] == [replayed, replayed]
    assert ours.get(f"{JOBS}/{two.json['id']}").status_code == 404


def test_one_that_cannot_be_stored_is_refused_alone(doors: Doors, together: Sent, monkeypatch: pytest.MonkeyPatch):
    record_all = submit.record_all

    def choosy(session: Session, new: Sequence[NewJob]) -> list[Any]:
        if any(job.args["value"] == "bad" for job in new):
            raise Unstorable("what the forms let through, and no column holds")
        return record_all(session, new)

    caller = doors.caller()
    monkeypatch.setattr(submit, "record_all", choosy)
    (good, bad, other), sizes = together(doors, *((caller, echo(value), {}) for value in ("a", "bad", "c")))
    assert (good.status_code, other.status_code) == (202, 202)
    assert_problem(bad, 400, "invalid-request")
    assert sizes == [1, 3, 1, 1, 1]


def test_a_statement_whose_answer_was_lost_makes_no_second_job_for_any_of_them(doors: Doors, together: Sent):
    forgetful = LosesAnswers(doors.database)
    through = Doors(forgetful)
    caller, before = through.caller(), doors.count_jobs()
    forgetful.times = 2  # that of the first, and that of all others
    answers, sizes = together(through, *((caller, echo(number), {}) for number in range(3)))
    assert [answer.status_code for answer in answers] == [202] * 3
    assert not any("Idempotency-Replayed" in answer.headers for answer in answers)
    assert len({answer.json["id"] for answer in answers}) == 3
    assert doors.count_jobs() == before + 4
    assert sizes[1] >= 3


def test_a_database_that_stays_away_is_a_503_for_all_of_them(doors: Doors, together: Sent):
    forgetful = LosesAnswers(doors.database)
    through = Doors(forgetful)
    caller = through.caller()
    through.caller().get(JOBS)  # its pepper is known
    forgetful.times = 10_000
    answers, _ = together(through, *((caller, echo(number), {}) for number in range(3)))
    for answer in answers:
        assert_problem(answer, 503, "unavailable")
    forgetful.times = 0


def test_a_key_that_somebody_s_transaction_holds_keeps_nobody_else_waiting(
    shared_postgresql: Database, eventually: Callable[..., Any]
):
    doors = Doors(shared_postgresql)
    caller, other = doors.caller(), doors.caller()
    caller.submit()  # its key and the pepper are known
    with ThreadPoolExecutor(4) as threads:
        with doors.database.transaction() as session:
            held = new_job(session, tenant_id=caller.tenant_id, idempotency_key="held")
            moves.record(session, [held])
            waits = threads.submit(caller.post, JOBS, echo(0), Idempotency_Key="held")
            eventually(lambda: blocked(doors.database))
            others = [threads.submit(other.post, JOBS, echo(number)) for number in range(3)]
            assert [answer.result(DEADLINE).status_code for answer in others] == [202] * 3
            assert not waits.done()
        assert_problem(waits.result(DEADLINE), 422, "idempotency-key-reused")


def test_a_key_that_somebody_s_transaction_holds_costs_those_who_are_asked_with_it_a_moment(
    shared_postgresql: Database, hold: Hold
):
    doors = Doors(shared_postgresql)
    caller, other = doors.caller(), doors.caller()
    caller.submit()
    with ThreadPoolExecutor(5) as threads, doors.database.transaction() as session:
        moves.record(session, [new_job(session, tenant_id=caller.tenant_id, idempotency_key="held")])
        held = hold(doors.services.submissions)
        threads.submit(other.submit)
        held.come(0)
        others, waits = [], []
        for number, (of, who, headers) in enumerate(
            [
                (others, other, {}),
                (waits, caller, {"Idempotency_Key": "held"}),
                (others, caller, {}),
                (others, other, {}),
            ]
        ):
            of.append(threads.submit(who.post, JOBS, echo(number), **headers))
            held.come(number + 1)
        held.let_go()
        began = time.monotonic()
        assert [answer.result(DEADLINE).status_code for answer in others] == [202] * 3
        assert time.monotonic() - began < 3  # and not the 5 s of a statement that waits for a lock by itself
        assert not waits[0].done()
    assert_problem(waits[0].result(DEADLINE), 422, "idempotency-key-reused")


def test_those_who_ask_together_need_no_connection_of_their_own(
    doors: Doors, together: Sent, monkeypatch: pytest.MonkeyPatch
):
    """It may take too long to be opened while all that a single one needs is there."""

    def refused(*_: Any, **__: Any) -> Any:
        raise Unavailable("no connection within 0.5 s", Trouble.CONNECTION)

    monkeypatch.setattr(doors.database, "run_together", refused)
    caller = doors.caller()
    answers, sizes = together(doors, *((caller, echo(number), {}) for number in range(5)))
    assert [answer.status_code for answer in answers] == [202] * 5
    assert sizes == [1, 5]


def test_one_with_a_unique_key_goes_alone(doors: Doors, hold: Hold):
    caller = doors.caller()
    with ThreadPoolExecutor(1) as threads:
        held = hold(doors.services.submissions)
        first = threads.submit(caller.submit)
        held.come(0)
        caller.submit(args={"value": 1}, unique_key="u")  # answered although another is out
        assert not first.done()
        held.let_go()
    assert held.sizes == [1, 1]


def test_keys_of_one_moment_are_one_statement_and_each_is_who_he_is(doors: Doors, hold: Hold):
    callers, wrong, first = [doors.caller() for _ in range(3)], Caller(doors, api_keys.new_token()), doors.caller()
    with ThreadPoolExecutor(6) as threads:
        held = hold(doors.services.key_lookups)
        threads.submit(first.get, JOBS)
        held.come(0)
        answers = []
        for number, caller in enumerate([*callers, wrong, callers[0]], 1):
            answers.append(threads.submit(caller.post, JOBS, echo(number)))
            held.come(number)
        held.let_go()
    told = [answer.result(DEADLINE) for answer in answers]
    assert [answer.status_code for answer in told] == [202, 202, 202, 401, 202]
    assert held.sizes[:2] == [1, 5]
    for caller, answer in zip([*callers, None, callers[0]], told, strict=True):
        if caller is not None:
            assert caller.get(f"{JOBS}/{answer.json['id']}").status_code == 200


def test_a_key_that_was_revoked_while_another_question_was_out_opens_nothing_any_more(doors: Doors, hold: Hold):
    other, late = doors.caller(), doors.caller()
    _, key_id, _ = str(late.token).split("_")
    with ThreadPoolExecutor(2) as threads:
        held = hold(doors.services.key_lookups)
        threads.submit(other.get, JOBS)
        held.come(0)
        with doors.database.transaction() as session:
            assert identity.revoke_key(session, key_id)
        refused = threads.submit(late.get, JOBS)
        held.come(1)
        held.let_go()
    assert refused.result(DEADLINE).status_code == 401
