"""What dispatchers and the broker between them and the workers do, and fail to do.

A dispatcher that is slow, frozen or no longer the leader acts on what it read long ago: reading and acting are two
rules here, with anything between them. The broker may lose, double and reorder what it likes, and lie about its depth.
"""

from datetime import timedelta
from uuid import UUID

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from models import moves, queries, reports, worker
from models.job import Ref
from models.moves import Ending
from models.states import FINAL, Move, State
from tests.model.stage import CLAIM_LASTS, PRIORITIES, QUEUE, Stage, pick, which
from workers.duties.grouping import envelopes
from workers.duties.reconcile import SETTLED_AFTER, missing
from workers.messages import decode, encode
from workers.transport import Envelope

DISPATCHER = "dispatcher:model"
LOST = {"type": "WorkerLost", "message": "gone", "code": "lost"}
BATCH = 500


class Dispatchers(Stage):
    """Claim, publish, release, rescue, reconcile, prune."""

    @rule(priority=st.sampled_from(PRIORITIES), limit=st.sampled_from([1, 2, 10]), size=st.integers(1, 3))
    def claim(self, priority, limit, size):
        expected = self.reference.claim(QUEUE, priority, limit, CLAIM_LASTS)
        with self.database.single() as session:
            moved = moves.claim(session, QUEUE, priority, limit, CLAIM_LASTS)
        self.agree(Move.CLAIM, moved, expected)
        messages = envelopes(moved, size, {job.type: 0.0 for job in moved})
        for message in messages:
            alone = any(self.reference.rows[ref.id].lost for ref in message.refs)
            assert len(message.refs) == 1 if alone else len(message.refs) <= size
        if messages:
            self.claimed.append(messages)

    @precondition(lambda self: self.claimed)
    @rule(
        number=which, arrives=st.sampled_from([True, True, True, False]), confirmed=st.sampled_from([True, True, False])
    )
    def publish(self, number, arrives, confirmed):
        """A message may be lost though it was confirmed, or arrive though it was not; the dispatcher may have died."""
        messages = self.claimed.pop(number % len(self.claimed))
        if arrives:
            self.on_broker += messages
        if not confirmed:
            self.intentions.append(("release", [ref for message in messages for ref in message.refs], set()))

    # The broker

    @precondition(lambda self: self.on_broker or self.delivered)
    @rule(number=which, loses=st.booleans())
    def the_broker_errs(self, number, loses):
        """It loses a message, or delivers one again: because an acknowledgement was lost, or for no reason."""
        if loses and self.on_broker:
            self.on_broker.pop(number % len(self.on_broker))
        elif self.delivered:
            self.on_broker.append(pick(number, self.delivered))

    def take_from_broker(self, number: int) -> list[Ref]:
        """Any message, whatever their order; what was encoded is what arrives."""
        message: Envelope = self.on_broker.pop(number % len(self.on_broker))
        self.delivered = [message, *self.delivered][:8]
        return decode(encode(message.refs))

    # What is read now and acted upon later

    @rule(what=st.sampled_from(["expired claims", "silent workers", "jobs of stopped workers"]))
    def look_for(self, what):
        if what == "expired claims":
            self.look_for_expired_claims()
        elif what == "silent workers":
            self.look_for_silent_workers()
        else:
            self.look_for_jobs_of_stopped_workers()

    def look_for_expired_claims(self) -> None:
        refs = self.database.read(lambda session: queries.expired_claims(session, BATCH))
        assert sorted(refs) == sorted(self.reference.expired())
        if refs:
            self.intentions.append(("release", refs, set()))

    def look_for_silent_workers(self) -> None:
        """What they begin until they are given up is found among the jobs of stopped workers."""
        silent = self.database.read(lambda session: worker.silent(session, BATCH))
        assert set(silent) == self.reference.silent()
        if silent:
            self._intend_to_rescue_from(silent)

    def look_for_jobs_of_stopped_workers(self) -> None:
        stopped = self.database.read(lambda session: worker.stopped_with_jobs(session, BATCH))
        assert set(stopped) == self.reference.stopped_with_jobs()
        if stopped:
            self._intend_to_rescue_from(stopped)

    def _intend_to_rescue_from(self, workers: list[UUID]) -> None:
        refs = self.database.read(lambda session: queries.running_of(session, workers, BATCH))
        assert sorted(refs) == sorted(self.reference.running_of(workers))
        self.intentions.append(("rescue", refs, set(workers)))

    @precondition(lambda self: self.reference.in_state(State.DISPATCHED))
    @rule(waiting=st.integers(0, 4))
    def compare_with_the_broker(self, waiting):
        """The broker may say anything of its depth: what is released wrongly costs a delivery, never a job."""
        claims = self.database.read(lambda session: queries.settled_claims(session, QUEUE, SETTLED_AFTER, BATCH))
        assert sorted(claims) == sorted(row.ref for row in self.reference.settled(QUEUE, SETTLED_AFTER))
        since = [self.reference.rows[ref.id].dispatched_at for ref in claims]
        assert since == sorted(since), "the oldest claim comes first"
        lost, kept = missing(claims, waiting, 1)
        assert len(lost) == max(0, len(claims) - waiting)
        assert lost + kept == claims
        if lost:
            self.intentions.append(("release", lost, set()))
        if kept:
            self.intentions.append(("renew", kept, set()))

    @precondition(lambda self: self.intentions)
    @rule(number=which, again=st.booleans())
    def act_on_what_was_read(self, number, again):
        """And perhaps again much later, as one that never learned whether its first try was committed."""
        act, refs, workers = intention = self.intentions.pop(number % len(self.intentions))
        if again:
            self.intentions.insert(0, intention)
        if act == "release":
            expected = self.reference.release(refs)
            moved = self.database.run(lambda session: moves.release(session, refs))
            self.agree(Move.RELEASE, moved, expected, len(refs))
        elif act == "renew":
            self.count("stale renewal", len(refs) - len(self.reference.renew(refs, CLAIM_LASTS)))
            self.database.run(lambda session: reports.renew_claims(session, refs, CLAIM_LASTS))
        else:
            self.rescue(refs, DISPATCHER)
            self.database.run(lambda session: worker.mark_stopped(session, list(workers)))
            self.reference.stopped |= workers

    def leave_a_stale_renewal(self) -> None:
        """A dispatcher reads of claims it has to renew; before it does, another releases them and claims the jobs."""
        self.claim(0, 10, 1)
        self.publish(-1, arrives=True, confirmed=False)
        self.pass_time(SETTLED_AFTER.total_seconds() + 1)
        self.compare_with_the_broker(10)
        self.act_on_what_was_read(-2, again=False)
        self.claim(0, 10, 1)

    def rescue(self, refs: list[Ref], actor: str) -> None:
        expected = self.reference.rescue(refs, LOST, actor)
        endings = [Ending(ref, error=orjson.dumps(LOST).decode(), reason="gone") for ref in refs]
        moved = self.database.run(lambda session: moves.rescue(session, endings, actor))
        self.agree(Move.RESCUE, moved, expected, len(refs))
        for job in moved:
            self.count(f"{Move.RESCUE} to {job.state}")

    @precondition(lambda self: self.reference.in_state(*FINAL))
    @rule(state=st.sampled_from(FINAL), kept=st.sampled_from([0, 60]))
    def prune(self, state, kept):
        retention = timedelta(seconds=kept)
        gone = self.database.run(lambda session: moves.prune(session, state, retention, BATCH))
        assert gone == self.reference.prune(state, retention)
        self.count(Move.PRUNE, gone)
