"""The model: every actor at once, the passing of time, and what must be true after each step."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from models.moves.telling import EVENTS
from models.states import FINAL, Move, State
from tests.model.attempts import Workers
from tests.model.reference import GIVES_THE_ATTEMPT_BACK, LOSSES_UNTIL_ALONE, Entry, Row
from tests.model.stage import PRIORITIES

# Each is just past something: a settled claim, a retry's wait, a heartbeat's end, a claim's end.
SPANS = (0.5, 6, 11, 21, 61)


class Model(Workers):
    """Jobmill without its processes: the real statements, decisions and look-ups, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.leases: dict[object, int] = {}

    @initialize(
        dead=st.booleans(),
        running=st.integers(0, 2),
        waiting=st.integers(0, 2),
        losses=st.sampled_from([0, 0, 1, 2]),
        unique=st.sampled_from([None, "u"]),
        slow_dispatcher=st.booleans(),
    )
    def begin_with_jobs_on_their_way(self, dead, running, waiting, losses, unique, slow_dispatcher):
        """So that there is something to act upon: far ones need so many steps that few runs would ever have them."""
        if dead:
            self.submit_simply(unique, 1)
            self.go_on(4, 0, "failure")
            self.submit_simply(unique)  # a rival for its key
        for _ in range(running):
            self.submit_simply()
            self.go_on(3, 0, "failure")
        for _ in range(losses if running else 0):
            self.be_given_up(0, "crash, and its messages are lost")
            self.go_on(3 * running, 0, "success")
        if slow_dispatcher:
            self.submit_simply()
            self.leave_a_stale_renewal()
        for _ in range(waiting):
            self.submit_simply()

    @rule(seconds=st.sampled_from([*SPANS, *SPANS, *(-span for span in SPANS)]))
    def time_passes(self, seconds):
        """Or the clock is set back."""
        self.pass_time(seconds)

    # What must be true after each step

    @invariant()
    def all_is_well(self):
        rows, history = self.world.rows(), self.world.history()
        self._rows_and_history_are_as_they_should_be(rows, history)
        self._no_lease_ever_decreases(rows, history)
        self._no_attempt_is_made_by_two()
        self._the_dead_are_counted_by_what_they_died_of(rows)
        self._who_could_be_buried_has_no_neighbour(rows)
        self._attempts_are_those_begun_less_those_given_back(rows, history)
        if self.world.listener is not None:
            self._every_end_is_told_once_to_whom_it_concerns(rows, history)

    def _rows_and_history_are_as_they_should_be(self, rows: list[Row], history: list[Entry]) -> None:
        """No loss, nothing foreign, one effect, each under its tenant: all that the reference says, and no more."""
        assert rows == sorted(self.reference.rows.values(), key=lambda row: row.id)
        assert _by_job(history) == _by_job(self.reference.history)
        assert {row.id for row in rows} <= set(self.submitted)

    def _no_lease_ever_decreases(self, rows: list[Row], history: list[Entry]) -> None:
        for row in rows:
            assert row.lease >= self.leases.get(row.id, 0)
            self.leases[row.id] = row.lease
        for entries in _by_job(history).values():
            told = [entry.lease for entry in entries]
            assert told == sorted(told)

    def _no_attempt_is_made_by_two(self) -> None:
        """A handler is begun once a lease, and once more for each time that its worker lost sight of it."""
        held = [run.ref for _, run in self.attempts()]
        assert len(held) == len(set(held))
        assert all(times <= 1 + self.forgotten[ref] for ref, times in self.begun.items())

    def _the_dead_are_counted_by_what_they_died_of(self, rows: list[Row]) -> None:
        counted: dict[tuple[UUID, str], Counter[str | None]] = defaultdict(Counter)
        for row in rows:
            if row.state == State.DEAD:
                counted[row.tenant_id, row.queue][row.error_type] += 1
        told = {key: sorted(by_error.values()) for key, by_error in counted.items()}
        assert self.world.dead_counts() == told

    def _who_could_be_buried_has_no_neighbour(self, rows: list[Row]) -> None:
        """But for what its worker lost sight of: nothing of that runs."""
        held = {run.ref for _, run in self.attempts()}
        running = [row for row in rows if row.state == State.RUNNING and row.ref in held]
        crowded = Counter(row.worker_id for row in running)
        assert all(crowded[row.worker_id] == 1 for row in running if row.lost >= LOSSES_UNTIL_ALONE)

    def _attempts_are_those_begun_less_those_given_back(self, rows: list[Row], history: list[Entry]) -> None:
        told = _by_job(history)
        begun = Counter(ref.id for ref in {*self.begun, *self.forgotten})
        for row in rows:
            moves = Counter(entry.move for entry in told.get(row.id, []))
            if not moves[Move.REDRIVE]:  # which begins to count anew
                assert row.attempt == begun[row.id] - sum(moves[move] for move in GIVES_THE_ATTEMPT_BACK)

    def _every_end_is_told_once_to_whom_it_concerns(self, rows: list[Row], history: list[Entry]) -> None:
        told, ended = self.world.told(), _by_job(history)
        for row in rows:
            ends = [entry.state for entry in ended.get(row.id, []) if entry.move != Move.EDIT]
            ends += [row.state] if row.state == State.SUCCEEDED else []
            expected = Counter(EVENTS[state] for state in ends if state in EVENTS)
            assert told.get(row.id, Counter()) == (expected if row.tenant_id == self.world.listener else Counter())

    # And at the end

    def teardown(self):
        """When the faults stop, every accepted job comes to an end by itself."""
        if sys.exc_info()[0] is None:  # else something else was wrong, and is told
            for _ in range(4):
                self._calm_round()
            assert {row.state for row in self.reference.rows.values()} <= set(FINAL)
            self.all_is_well()

    def _calm_round(self) -> None:
        """Workers without a word are given up, what is due is claimed and done, and nothing goes wrong."""
        self.pass_time(3600)  # more than it can have stepped back
        self.beat(self.hands[0])
        self.look_for_expired_claims()
        self.look_for_silent_workers()
        self.look_for_jobs_of_stopped_workers()
        self.take_back(self.hands[0])
        while self.intentions:
            self.act_on_what_was_read(0, again=False)
        for priority in PRIORITIES:
            self.claim(priority, 500, 3)
        while self.claimed:
            self.publish(0, arrives=True, confirmed=True)
        self._end_all()
        while self.on_broker:
            self.deliver(0, 0, "heard", twice=True)
            self._end_all()

    def _end_all(self) -> None:
        while self.attempts():
            self._end(0, "success")


def _by_job(history: Iterable[Entry]) -> dict[UUID, list[Entry]]:
    entries = defaultdict(list)
    for entry in history:
        entries[entry.job_id].append(entry)
    return dict(entries)
