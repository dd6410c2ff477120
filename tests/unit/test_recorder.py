"""What waits to be recorded together: what is known of one result does not wait for what becomes of another."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.outcomes import Succeeded
from jobs.retry import Exponential
from models.errors import Trouble, Unavailable
from models.ids import new_id
from models.job import Ref
from models.states import Move
from workers.recorder import Recorder, Ticket

NOW = datetime(2027, 1, 1, tzinfo=UTC)
NO_SESSION: Any = SimpleNamespace(session=None, roll_back=lambda: None)


class Half:
    """A database that records what nobody listens to, and then goes away."""

    def __init__(self, quiet: list[Ref]) -> None:
        self.quiet = quiet

    def run_together(self, _step: Any, _patience: timedelta, **_how: Any) -> list[Any]:
        return self.quiet

    def run(self, _step: Any, _patience: timedelta, **_how: Any) -> Any:
        raise Unavailable("it went away")


class Busy:
    """A database of which somebody holds a row at first."""

    def __init__(self) -> None:
        self.tries = 0
        self.refs: list[Ref] = []

    def run_together(self, _step: Any, _patience: timedelta, **_how: Any) -> list[Any]:
        self.tries += 1
        if self.tries == 1:
            raise Unavailable("held", Trouble.TIMEOUT)
        return self.refs


def recorded(recorder: Recorder) -> Ticket:
    job: Any = SimpleNamespace(ref=Ref(new_id(), 1), attempt=1, max_attempts=5)
    return recorder.record(job, Succeeded(b"1"), Exponential(), NO_SESSION)


def test_a_success_that_is_recorded_is_not_in_doubt_because_another_s_is() -> None:
    recorder = Recorder(Half([]), "worker:1", lambda: None)  # type: ignore[arg-type]
    quiet, loud = recorded(recorder), recorded(recorder)
    recorder.database.quiet.append(quiet.job.ref)  # type: ignore[attr-defined]
    recorder.settle([quiet])
    assert (quiet.move, quiet.mishap) == (Move.SUCCEED, None)
    with pytest.raises(Unavailable):
        raise loud.mishap or AssertionError


def test_what_somebody_held_is_tried_again_and_not_too_often_while_its_message_goes_on() -> None:
    database = Busy()
    recorder = Recorder(database, "worker:1", lambda: None)  # type: ignore[arg-type]
    ticket = recorded(recorder)
    database.refs.append(ticket.job.ref)
    ticket.since -= 1
    for _ in range(3):
        recorder.hurry()
    assert (database.tries, ticket.settled) == (1, False)
    recorder._held_until = 0.0
    recorder.hurry()
    assert (database.tries, ticket.move) == (2, Move.SUCCEED)
