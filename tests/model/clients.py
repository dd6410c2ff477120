"""What clients and operators do, as often as they like and at the wrong time."""

from uuid import UUID

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from jobs import operate, submit
from jobs.scopes import ALL_SCOPES, Principal
from jobs.submit import KeyReused, NotUnique, Recorded
from models import moves
from models.ids import new_id
from models.job import NewJob
from models.states import Move, State
from tests.model.stage import PRIORITIES, QUEUE, Stage, pick, which

OPERATOR = "key:operator"


class Clients(Stage):
    """Submit, cancel, edit, redrive, discard."""

    @rule(
        tenant=which,
        key=st.sampled_from([None, "a", "a", "b"]),
        body=st.sampled_from([b"one", b"another"]),
        unique=st.sampled_from([None, None, "u"]),
        priority=st.sampled_from(PRIORITIES),
        delay=st.sampled_from([0, 0, 30]),
        max_attempts=st.sampled_from([1, 2]),
    )
    def submit(self, *, tenant, key, body, unique, priority, delay, max_attempts):
        new = NewJob(
            id=new_id(),
            tenant_id=pick(tenant // 6, self.world.tenants),  # mostly ours
            type="model.job",
            queue=QUEUE,
            args={},
            priority=priority,
            max_attempts=max_attempts,
            timeout_seconds=60,
            tags={},
            delay_seconds=delay,
            unique_key=unique,
            idempotency_key=key,
            request_hash=body,
        )
        self._submit(new)

    @precondition(lambda self: self.reference.rows)
    @rule(number=which)
    def submit_again_because_the_answer_was_lost(self, number):
        """The same request of the API to the database; no job is pruned while that is tried again."""
        self._submit(self.submitted[pick(number, list(self.reference.rows))])

    def submit_simply(self, unique: str | None = None, max_attempts: int = 2) -> None:
        self.submit(tenant=0, key=None, body=b"one", unique=unique, priority=0, delay=0, max_attempts=max_attempts)

    def _submit(self, new: NewJob) -> None:
        keeper, holder = self.reference.keeper_of(new), self.reference.holder_of(new)
        again = new.id in self.reference.rows
        was_recorded = self.reference.record(new)
        (answer,) = self.database.run(lambda session: submit.record_all(session, [new]))
        if isinstance(answer, KeyReused):
            assert not again
            assert keeper
            assert self.submitted[keeper.id].request_hash != new.request_hash
            self.count("key reused")
        elif isinstance(answer, NotUnique):
            assert not again
            assert not keeper
            assert holder == self.reference.rows[answer.holder]
            self.count("not unique")
        else:
            assert isinstance(answer, Recorded)
            expected = new.id
            if not (was_recorded or again):
                assert keeper, "recorded against the rules"
                assert self.submitted[keeper.id].request_hash == new.request_hash
                expected = keeper.id
            assert (answer.job.id, answer.replayed) == (expected, expected != new.id)
            self.submitted.setdefault(expected, new)
            self.count(Move.RECORD if was_recorded else "replayed")

    @precondition(lambda self: self.reference.rows)
    @rule(number=which, by_a_stranger=which, times=st.integers(1, 2))
    def cancel(self, number, by_a_stranger, times):
        for _ in range(times):
            self.cancel_job(pick(number, list(self.reference.rows)), by_a_stranger)
            self.pass_time(0.5)

    def cancel_job(self, job_id: UUID, by_a_stranger: int = 1) -> None:
        row = self.reference.rows[job_id]
        ours, theirs = self.world.tenants
        stranger = theirs if row.tenant_id == ours else ours
        who = Principal("client", row.tenant_id if by_a_stranger else stranger, ALL_SCOPES)
        try:
            job = self.database.run(lambda session: operate.cancel(session, who, row.id))
        except operate.NoSuchJob:
            assert not by_a_stranger
        except operate.JobIsFinal:
            assert not self.reference.cancel(row.id, who.actor)
            assert self.reference.rows[row.id].finished_at
            self.count("cancel of a final job")
        else:
            self.reference.cancel(row.id, who.actor)
            assert job.state is self.reference.rows[row.id].state
            self.count(f"{Move.CANCEL} of a {row.state} job")

    @precondition(lambda self: self.reference.rows)
    @rule(number=which, of_waiting=st.booleans())
    def run_now(self, number, of_waiting):
        waiting = [row.id for row in self.reference.in_state(State.QUEUED) if row.due_at > self.reference.now]
        row = self.reference.rows[pick(number, waiting if of_waiting and waiting else list(self.reference.rows))]
        who = Principal("client", row.tenant_id, ALL_SCOPES)
        expected = self.reference.run_now(row.id, who.actor)
        try:
            job, moved = self.database.run(lambda session: operate.run_now(session, who, row.id))
        except operate.JobIsNotWaiting:
            assert row.state is not State.QUEUED
        else:
            assert (job.state, moved) == (State.QUEUED, expected)
            self.count(Move.RUN_NOW if moved else "run now of a due job")

    @precondition(lambda self: {row.ref for row in self.reference.in_state(State.DEAD)} - set(self.seen))
    @rule()
    def look_at_the_dead_letters(self):
        """An operator acts on what he saw, which may be long ago."""
        dead = [row.ref for row in self.reference.in_state(State.DEAD)]
        self.seen = list(dict.fromkeys([*dead, *self.seen]))[:6]

    @precondition(lambda self: self.seen)
    @rule(number=which, knows=st.booleans())
    def edit(self, number, knows):
        """By what he saw of the arguments, or by what he thinks they are."""
        ref = pick(number, self.seen)
        row = self.reference.rows.get(ref.id)
        before, args = row.args if row and knows else {"n": -1}, {"n": number}
        expected = self.reference.edit(ref, before, args, OPERATOR)
        texts = [orjson.dumps(document).decode() for document in (before, args)]
        moved = self.database.run(lambda session: moves.edit(session, ref, *texts, OPERATOR, "as told"))
        self.agree(Move.EDIT, moved, expected, 1)

    @precondition(lambda self: self.seen)
    @rule(number=which, what=st.sampled_from(["redrive", "redrive all", "discard"]))
    def operate(self, number, what):
        refs = self.seen if what == "redrive all" else [pick(number, self.seen)]
        if what == "discard":
            expected = self.reference.discard(refs, OPERATOR)
            moved = self.database.run(lambda session: moves.discard(session, refs, OPERATOR))
            self.agree(Move.DISCARD, moved, expected, len(refs))
        else:
            expected = self.reference.redrive(refs, OPERATOR)
            moved = self.database.run(lambda session: moves.redrive(session, refs, OPERATOR))
            self.agree(Move.REDRIVE, moved, expected, len(refs))
