"""Claiming: by priority, within a priority by fair share, and no more than a queue's limits let out."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from models import gate, lineup, moves, queue
from models.database import Database
from models.errors import Unavailable
from models.gate import Gate
from models.job import GATED_QUEUE, Ref
from models.lineup import Lane, Waiting
from models.moves import Moved
from models.states import Move
from workers import metrics
from workers.duties.limits import allowance, paced_until, room
from workers.duties.turns import Turns

CLAIM_EXPIRES_AFTER = timedelta(seconds=60)
GATE_WIDTH = 4
MOST_SHARES = 200
"""So many tenants, or gates, of a lane are looked at in one step; the next goes on behind them."""
ORDINARY = 0
"""The priority of a job that names none."""
MOST_ROUNDS = 4
"""Tenants with less than their share leave the rest to others, so often in one step."""
log = structlog.get_logger(__name__)


@dataclass
class Claimed:
    """What a step claimed for a queue whose workers have so many threads."""

    threads: int
    of_background: int
    """So many jobs may be claimed before those below the ordinary priority have to stay."""
    jobs: list[Moved] = field(default_factory=list)
    more: bool = False
    """Whether more is due that is left for the next step."""
    counted: bool = False
    """Whether the step counted what is in hand."""
    full: bool = False
    """Whether gates let out no more of what is due."""
    fits: Callable[[Sequence[Moved]], int] = len
    """How many of the next jobs there is room for: the first ones."""
    too_much: list[Ref] = field(default_factory=list)
    """What was claimed beyond that, and is to be released."""
    made: int = 0
    """So many claims were made in all."""
    released: tuple[int, int] = (0, 0)
    """Of so many that were to be released with the claim's own transaction, so many were."""

    def keep(self, jobs: Sequence[Moved]) -> Sequence[Moved]:
        """Add those that fit, in their order; the first that does not keeps those behind it away as well."""
        self.made += len(jobs)
        kept = jobs[: self.fits(jobs)]
        self.jobs += kept
        self.too_much += [job.ref for job in jobs[len(kept) :]]
        return kept

    def count(self) -> None:
        """For the metrics, once it is committed."""
        metrics.moves.labels(Move.CLAIM).inc(self.made)
        metrics.count(Move.RELEASE, *self.released)


class Claims:
    """Claims for one dispatcher, which remembers whose turn it is."""

    def __init__(self, database: Database, gate_width: int = GATE_WIDTH) -> None:
        self.database = database
        self.gate_width = gate_width
        self._turns: dict[tuple[str, int], Turns] = {}
        self._trials = Turns()  # of receivers that gave no answer
        self._behind: dict[tuple[str, int], UUID] = {}

    def take(
        self,
        due: Sequence[Lane],
        wanted: int,
        limited: bool,
        threads: int,
        of_background: int | None = None,
        fits: Callable[[Sequence[Moved]], int] = len,
    ) -> Claimed:
        """Claim up to `wanted` jobs of a queue's due lanes, the highest priority first, for so many threads in all.

        Those below the ordinary priority are claimed only as long as no more than `of_background` are. How long a job
        takes is seen when it is claimed: those that `fits` has no room for count for nobody's turn. They have gone
        back, but for the `too_much` that the caller is to release once the others are on their way.
        """
        claimed = Claimed(threads, wanted if of_background is None else of_background, fits=fits)
        if not due or wanted <= 0:
            claimed.more = bool(due)
            return claimed
        if limited:
            claim = self._within_limits
        elif due[0].queue == GATED_QUEUE:
            claim = self._through_gates
        else:
            claim = self._at_once
        claim(due, wanted, claimed)
        claimed.count()
        return claimed

    def _at_once(self, due: Sequence[Lane], wanted: int, claimed: Claimed) -> None:
        """What was claimed before the database went away is published all the same."""
        try:
            with self.database.heart() as session:
                self._by_lane(session, due, wanted, claimed)
        except Unavailable as error:
            if not claimed.jobs:
                raise
            log.warning("claims_cut_short", queue=due[0].queue, claimed=len(claimed.jobs), error=str(error))

    def _through_gates(self, due: Sequence[Lane], wanted: int, claimed: Claimed) -> None:
        """Count and claim in one transaction, which holds the gates that it counts by."""
        with self.database.transaction() as session:
            self._by_lane(session, due, wanted, claimed)
            _give_back(session, claimed)

    def _within_limits(self, due: Sequence[Lane], wanted: int, claimed: Claimed) -> None:
        """Count and claim while no other dispatcher does: two that each saw one free slot would fill it twice."""
        name = due[0].queue
        claimed.more = claimed.counted = True
        with self.database.transaction() as session:
            held = queue.take_queue(session, name)
            if held is None or held.paused:
                return
            in_hand = lineup.in_hand(session, name)
            wanted = min(wanted, allowance(held, in_hand))
            if wanted > 0:
                self._by_lane(session, due, wanted, claimed)
                _give_back(session, claimed)
            until = paced_until(held, len(claimed.jobs), in_hand.at)
            if claimed.jobs and until is not None:
                queue.pace(session, name, until)

    def _by_lane(self, session: Session, due: Sequence[Lane], wanted: int, claimed: Claimed) -> None:
        for lane in due:
            most = wanted if lane.priority >= ORDINARY else min(wanted, claimed.of_background)
            left = most - len(claimed.jobs)
            if left > 0:
                take = self._by_share if lane.shared else self._of_one_tenant
                take(session, lane, left, claimed)
            claimed.more = claimed.more or len(claimed.jobs) >= most or bool(claimed.too_much)
            if claimed.too_much:
                break

    def _of_one_tenant(self, session: Session, lane: Lane, wanted: int, claimed: Claimed) -> None:
        self._turns.pop((lane.queue, lane.priority), None)  # whoever comes next is abreast of it
        claimed.keep(
            moves.claim(session, lane.queue, lane.priority, wanted, CLAIM_EXPIRES_AFTER, counted=claimed.counted)
        )

    def _by_share(self, session: Session, lane: Lane, wanted: int, claimed: Claimed) -> None:
        turns = self._turns.setdefault((lane.queue, lane.priority), Turns())
        waiting = self._waiting(session, lane, claimed)
        rooms, silent, shut = self._rooms(session, waiting, claimed)
        waiting = [one for one in waiting if rooms.get(one.share_id, wanted) > 0]
        jobs: list[Moved] = []
        line: list[UUID] = []
        unserved = waiting
        try:
            for _ in range(MOST_ROUNDS):
                in_turn = turns.in_turn(unserved, wanted - len(jobs), rooms)
                if not in_turn:
                    break
                line += in_turn
                shares = Counter(in_turn)
                found = moves.claim_shares(
                    session, lane.queue, lane.priority, shares, CLAIM_EXPIRES_AFTER, counted=claimed.counted
                )
                jobs += found
                of_each = _of_each(found)
                rooms = {share_id: left - of_each[share_id] for share_id, left in rooms.items()}
                unserved = [one for one in unserved if of_each[one.share_id] >= shares[one.share_id]]
        finally:  # what was claimed goes out, although the database has gone away meanwhile
            served = _of_each(claimed.keep(_in_turn(jobs, line)))
        claimed.full = claimed.full or any(left <= 0 for share_id, left in rooms.items() if share_id not in shut)
        turns.taken(waiting, served)
        if silent:
            self._trials.taken(silent, served)

    def _rooms(
        self, session: Session, waiting: Sequence[Waiting], claimed: Claimed
    ) -> tuple[dict[UUID, int], list[Waiting], set[UUID]]:
        """How many jobs each gate lets out now, those of receivers that gave no answer, and the gates that are closed.

        Nothing is said of those who wait at none.
        """
        ids = [one.share_id for one in waiting if one.gated]
        if not ids:
            return {}, [], set()
        held, busy = gate.hold_free(session, ids)
        in_hand = gate.in_hand(session, ids)
        rooms = {
            share_id: 0 if share_id in busy else room(held.get(share_id), in_hand.get(share_id, 0), self.gate_width)
            for share_id in ids
        }
        silent = [one for one in waiting if rooms.get(one.share_id, 0) > 0 and _is_silent(held.get(one.share_id))]
        if silent:
            left = gate.most_at_silent(claimed.threads) - gate.in_hand_at_silent(session)
            tried = self._trials.shares(silent, left, rooms)
            rooms |= {one.share_id: tried.get(one.share_id, 0) for one in silent}
        return rooms, silent, {share_id for share_id, one in held.items() if one.closed}

    def _waiting(self, session: Session, lane: Lane, claimed: Claimed) -> list[Waiting]:
        """Those who have something due, of the next few who have something that waits.

        Behind the last of them the first follow: one that stood alone behind a full page would have a step to itself.
        """
        key = (lane.queue, lane.priority)
        behind = self._behind.pop(key, None)
        page = lineup.waiting_shares(session, lane, behind, MOST_SHARES)
        if behind is not None and len(page) < MOST_SHARES:
            first = lineup.waiting_shares(session, lane, None, MOST_SHARES - len(page))
            page += [one for one in first if one.share_id <= behind]
        if len(page) == MOST_SHARES:
            self._behind[key] = page[-1].share_id
            claimed.more = True
            if lane.queue == GATED_QUEUE:
                # Whoever has more gates than a look sees shall not be alone in most looks.
                seen = {one.share_id for one in page}
                others = lineup.longest_due_gates(session, lane, MOST_SHARES)
                page += [one for one in others if one.share_id not in seen]
        return [one for one in page if one.due]


def _give_back(session: Session, claimed: Claimed) -> None:
    """Release in the claim's own transaction what was too much."""
    if claimed.too_much:
        released = moves.release(session, claimed.too_much)
        claimed.released = len(claimed.too_much), len(released)
        claimed.too_much = []


def _in_turn(jobs: Sequence[Moved], line: Sequence[UUID]) -> list[Moved]:
    """The jobs as their shares stand in line, which may stand there more often than they have jobs."""
    of: defaultdict[UUID, deque[Moved]] = defaultdict(deque)
    for job in jobs:
        of[job.share_id].append(job)
    return [of[share_id].popleft() for share_id in line if of[share_id]]


def _of_each(jobs: Iterable[Moved]) -> Counter[UUID]:
    return Counter(job.share_id for job in jobs)


def _is_silent(known: Gate | None) -> bool:
    return known is not None and known.unanswered > 0
