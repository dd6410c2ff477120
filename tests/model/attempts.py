"""What workers do: begin what a message names, end it one way or another, die, or go on when they should be dead."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from jobs.outcomes import Abandoned, Failed, FailedForGood, Failure, GivenBack, Snoozed, Stopped, Succeeded
from models import moves, queries, reports, worker
from models.job import Ref
from models.moves import Ending, Started
from models.reports import Report
from models.states import Move, State
from tests.model.clients import Clients
from tests.model.dispatchers import DISPATCHER, Dispatchers
from tests.model.stage import POLICY, PRIORITIES, QUEUE, RETRY_WAIT, Hand, pick, which
from workers.alone import Refusal
from workers.desk import DatabaseDesk
from workers.transport import Envelope

FAILURE = Failure("Boom", "it broke", "exception")
ERROR = {"type": "Boom", "message": "it broke", "code": "exception"}
SOON, LATER = timedelta(0), timedelta(seconds=45)

OUTCOMES = {
    "success": Succeeded(b'{"rows": 3}'),
    "success that told its progress": Succeeded(b"1.5", percent=100.0, message="done"),
    "failure": Failed(FAILURE),
    "failure that names its wait": Failed(FAILURE, LATER),
    "failure for good": FailedForGood(FAILURE),
    "snooze": Snoozed(LATER, "too early"),
    "given back": GivenBack(),
    "abandoned": Abandoned(),
}


class Workers(Clients, Dispatchers):
    """Start, finish, crash, report, take back."""

    @property
    def open_hands(self) -> list[Hand]:
        """Those that take messages: all but who has one job for itself."""
        return [hand for hand in self.hands if hand.kept_for is None]

    @precondition(lambda self: self.on_broker and self.open_hands)
    @rule(number=which, hand=which, answer=st.sampled_from(["heard", "lost", "never heard"]), twice=st.booleans())
    def deliver(self, number, hand, answer, twice):
        """A message comes to a worker, which begins what it names, unless it has it in hand already."""
        at: Hand = pick(hand, self.open_hands)
        refs = self.take_from_broker(number)
        self._begin(at, refs, answer)
        if twice:
            self._begin(at, refs, "heard")

    def _begin(self, at: Hand, refs: list[Ref], answer: str) -> None:
        fresh = at.executor.in_hand.take(refs)
        self.count("duplicate", len(refs) - len(fresh))
        if not fresh:
            return
        moved = self.reference.start(fresh, at.id)
        if answer == "never heard":
            self.database.run_single(lambda session: moves.start(session, fresh, at.id))
            at.executor.in_hand.doubt(fresh)
            at.executor.in_hand.let_go(fresh)
            self.forgotten.update(moved)
            return
        at.lose_answers(answer == "lost")
        started = at.database.run_single(lambda session: at.executor._start_or_find(session, fresh))
        # What an earlier, unheard start of this worker began is found again.
        expected = [ref for ref in fresh if ref in self.reference.running_of([at.id])]
        self.agree(Move.START, started, expected, len(fresh))
        assert [job.attempt for job in started] == [self.reference.rows[job.id].attempt for job in started]
        at.executor.in_hand.let_go(set(fresh) - set(expected))
        at.runs += started
        self.begun.update(expected)
        others = [ref for ref in fresh if ref not in expected]
        solitary = at.executor.alone.needed_by(others)
        assert solitary == [ref for ref in others if self.reference.needs_to_be_alone(ref)]
        for ref in solitary:
            self._begin_alone(at, ref)

    def _begin_alone(self, at: Hand, ref: Ref) -> None:
        """One more loss would bury it, so it begins only where nothing else runs, or comes again later."""
        self.begun[ref] += 1
        if at.runs:
            at.executor.alone.put_off(ref, Refusal("busy", LATER), 0.5)
            self.reference.put_off(ref, at.id, LATER, at.actor)
            self.count("put off")
            return
        at.executor.in_hand.take([ref])
        self.reference.start([ref], at.id, alone=True)
        at.runs += at.database.run_single(lambda session: at.executor._start_or_find(session, [ref], alone=True))
        at.kept_for = ref
        self.count("alone")

    @rule(
        number=which,
        meanwhile=st.sampled_from(
            ["nothing", "nothing", "nothing", "it is cancelled", "it is given up", "another begins it"]
        ),
        outcome=st.sampled_from(sorted(OUTCOMES)),
        answer_is_lost=st.booleans(),
    )
    def finish(self, number, meanwhile, outcome, answer_is_lost):
        """Sooner or later, perhaps under a lease that was lost long ago, and never before it reported once more."""
        if not self.attempts():
            self.submit_simply()
        while not self.attempts() and self._bring_on(number):
            pass
        hand, run = pick(number, self.attempts())
        if meanwhile == "it is cancelled" and run.id in self.reference.rows:
            self.cancel_job(run.id)
        if meanwhile in {"it is given up", "another begins it"}:
            self.rescue([run.ref], DISPATCHER)
        if meanwhile == "another begins it":
            while self._bring_on(number):
                pass
        self._report(hand, run)
        self._finish(hand, run, OUTCOMES[outcome], answer_is_lost)

    @precondition(lambda self: any(hand.told_to_stop for hand in self.hands))
    @rule(number=which, answer_is_lost=st.booleans())
    def stop_as_told(self, number, answer_is_lost):
        hand, run = pick(number, [each for each in self.attempts() if each[1].ref in each[0].told_to_stop])
        self._finish(hand, run, Stopped(), answer_is_lost)

    def _finish(self, hand: Hand, run: Started, outcome, answer_is_lost: bool) -> None:
        expected = self._expected(hand, run, outcome)
        hand.lose_answers(answer_is_lost)
        recorder = hand.executor.recorder
        ticket = recorder.record(run, outcome, POLICY, DatabaseDesk(hand.database, run.ref))
        recorder.settle([ticket])
        hand.lose_answers(0)
        hand.ended([run])
        hand.told_to_stop.discard(run.ref)
        assert ticket.mishap is None
        assert ticket.move == expected, "the worker believes what happened"
        self.count(expected or f"stale {type(outcome).__name__}")

    def _expected(self, hand: Hand, run: Started, outcome) -> Move | None:  # noqa: PLR0911 - one a kind of outcome
        """The move that follows from an outcome, made on the reference; None if the lease is lost."""
        match outcome:
            case Succeeded(_, percent):
                result = 1.5 if percent else {"rows": 3}
                return self.reference.succeed(run, result, percent)
            case Failed(_, after):
                return self.reference.fail(run, ERROR, RETRY_WAIT if after is None else after, hand.actor)
            case FailedForGood():
                return self.reference.bury(run, ERROR, hand.actor)
            case Snoozed(after):
                return self.reference.give_back(run, Move.SNOOZE, after, hand.actor)
            case GivenBack():
                return self.reference.give_back(run, Move.INTERRUPT, None, hand.actor)
            case Stopped():
                return self.reference.stop(run, hand.actor)
        # Abandoned: the worker was told that the job is another's.
        if self.reference.of(run.ref, State.RUNNING):
            self.forgotten[run.ref] += 1
        return None

    @precondition(lambda self: any(len(hand.runs) > 1 for hand in self.hands))
    @rule(number=which, answer_is_lost=st.booleans())
    def succeed_together(self, number, answer_is_lost):
        """All successes of a worker are one statement, in which the stale ones are left out."""
        hand = pick(number, [hand for hand in self.hands if len(hand.runs) > 1])
        runs = list(hand.runs)
        expected = [self.reference.succeed(run, {"rows": 3}, None) for run in runs]
        recorder = hand.executor.recorder
        hand.lose_answers(answer_is_lost)
        desks = [DatabaseDesk(hand.database, run.ref) for run in runs]
        tickets = [
            recorder.record(run, OUTCOMES["success"], POLICY, desk) for run, desk in zip(runs, desks, strict=True)
        ]
        recorder.settle(tickets)
        hand.lose_answers(0)
        hand.ended(runs)
        hand.told_to_stop.difference_update(run.ref for run in runs)
        assert [ticket.move for ticket in tickets] == expected

    # Meanwhile

    def _report(self, hand: Hand, run: Started) -> None:
        kept = self.reference.save_checkpoint(run.ref, {"at": run.lease})
        self.reference.tell_progress(run.ref, 50.0)
        text = f'{{"at": {run.lease}}}'
        assert hand.database.run(lambda session: reports.write_checkpoint(session, run.ref, text)) == kept
        hand.database.run(lambda session: reports.write_progress(session, [Report(run.ref, 50.0, "half")]))

    @rule(hand=which, then=st.sampled_from(["nothing", "beat", "take back"]))
    def watch(self, hand, then):
        """A worker hears which of its jobs are to be cancelled, says that it lives, looks for jobs it lost sight of."""
        at = pick(hand, self.hands)
        self._listen(at)
        if then == "beat":
            self.beat(at)
        if then == "take back":
            self.take_back(at)

    def _listen(self, at: Hand) -> None:
        signals = self.database.read(lambda session: queries.signals(session, at.id))
        mine = {row.id: row for row in self.reference.in_state(State.RUNNING) if row.worker_id == at.id}
        assert {job_id: (signal.lease, signal.cancel_requested) for job_id, signal in signals.items()} == {
            job_id: (row.lease, row.asked_to_stop) for job_id, row in mine.items()
        }
        asked = {row.ref for row in mine.values() if row.asked_to_stop}
        at.told_to_stop |= asked & {run.ref for run in at.runs}

    def beat(self, at: Hand) -> None:
        assert self.database.run(lambda session: worker.beat(session, at.id))
        self.reference.heartbeats[at.id] = self.reference.now
        self.reference.stopped.discard(at.id)

    def take_back(self, at: Hand) -> None:
        """The rows say that this worker runs it, and no thread of it does; what was not even begun is not lost."""
        running = self.database.read(lambda session: queries.running_of(session, [at.id], 500))
        unheld = at.executor.in_hand.lacks(running)
        assert set(unheld) == set(self.reference.running_of([at.id])) - {run.ref for run in at.runs}
        doubted = at.executor.in_hand.doubted()
        unbegun = [ref for ref in unheld if ref in doubted]
        if unbegun:
            self._give_back_unbegun(at, unbegun)
        if begun := [ref for ref in unheld if ref not in doubted]:
            self.rescue(begun, at.actor)
        at.executor.in_hand.settle_doubts(doubted)

    def _give_back_unbegun(self, at: Hand, refs: list[Ref]) -> None:
        expected = self.reference.give_back_unbegun(refs, at.actor)
        endings = [Ending(ref, reason="unheard of") for ref in refs]
        moved = self.database.run(lambda session: moves.interrupt(session, endings, at.actor))
        self.agree(Move.INTERRUPT, moved, expected, len(refs))

    @precondition(lambda self: self.attempts())
    @rule(hand=which, how=st.sampled_from(["crash", "crash, and its messages are lost", "freeze", "freeze"]))
    def be_given_up(self, hand, how):
        """A worker is gone with all it was doing, or only thought so: it will go on, a zombie that knows nothing.

        Its parent or a dispatcher takes its jobs; of the broker its messages come back, or not.
        """
        at = pick(hand, [hand for hand in self.hands if hand.runs])
        refs = self.database.read(lambda session: queries.running_of(session, [at.id], 500))
        if how != "freeze":
            self._crash(at, given_back=how == "crash")
        self.rescue(refs, DISPATCHER)

    @precondition(lambda self: self.attempts())
    @rule(hand=which)
    def crash_unseen(self, hand):
        self._crash(pick(hand, [hand for hand in self.hands if hand.runs]), given_back=True)

    def _crash(self, at: Hand, *, given_back: bool) -> None:
        refs = [run.ref for run in at.runs]
        self.forgotten.update(refs)
        if given_back:
            self.on_broker += [Envelope(QUEUE, (ref,)) for ref in refs]
        self.hands[self.hands.index(at)] = self.new_hand()
        self.count("crash")

    # And when nothing goes wrong

    @rule(steps=st.integers(1, 5), number=which, outcome=st.sampled_from(sorted(OUTCOMES)))
    def go_on(self, steps, number, outcome):
        """Whatever comes next on the straight path."""
        for _ in range(steps):
            self._go_on(number, outcome)

    def _go_on(self, number: int, outcome: str) -> None:
        ends_first = number % 2 and self.attempts()
        if ends_first or (not self._bring_on(number) and self.attempts()):
            self._end(number, outcome)

    def _bring_on(self, number: int) -> bool:
        """One step towards a worker; False if no job waits for one."""
        due = [priority for priority in PRIORITIES if self.reference.due(QUEUE, priority)]
        if self.on_broker and self.open_hands:
            self.deliver(number, number, "lost" if number % 4 == 3 else "heard", twice=False)
        elif self.claimed:
            self.publish(number, arrives=True, confirmed=True)
        elif due:
            self.claim(pick(number, due), 1, 1)
        else:
            return False
        return True

    def _end(self, number: int, outcome: str) -> None:
        hand, run = pick(number, self.attempts())
        self._finish(hand, run, OUTCOMES[outcome], answer_is_lost=False)
