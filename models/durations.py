"""How long jobs of each type take, as the workers that ran them last have said."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.worker import workers

WORKERS_HEARD = 100
_told = workers.c.seconds_by_type
_heard = select(_told).where(_told.is_not(None)).order_by(workers.c.heartbeat_at.desc()).limit(WORKERS_HEARD)


@dataclass(frozen=True)
class Lately:
    """How long a type's handlers ran lately in one process, in seconds, and how many runs speak for it."""

    seconds: float
    runs: int


def tell(session: Session, worker_id: UUID, by_type: Mapping[str, Lately]) -> bool:
    """Say how long handlers ran lately in one worker process; False if it has no row."""
    told = {name: [lately.seconds, lately.runs] for name, lately in by_type.items()}
    said = update(workers).where(workers.c.id == worker_id).values(seconds_by_type=told)
    return bool(session.execute(said).rowcount)  # type: ignore[attr-defined]


def known(session: Session) -> dict[str, float]:
    """Seconds by job type: the mean over the workers last heard of, also those that have stopped since.

    Each has the weight of its runs, so that a process that ran a type once, for the first time, decides little. A
    deploy forgets nothing: the rows of workers that stopped stay for a day.
    """
    work: dict[str, float] = defaultdict(float)
    runs: dict[str, int] = defaultdict(int)
    for by_type in session.scalars(_heard):
        for name, told_of in by_type.items():
            match told_of:
                case [float() | int() as seconds, int() as count]:
                    work[name] += seconds * count
                    runs[name] += count
                case _:  # a worker of another release may say it otherwise; it sets a pace only, and stops nobody
                    continue
    return {name: work[name] / count for name, count in runs.items() if count}
