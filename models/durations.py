"""How long jobs of each type take, as the workers that ran them last have said."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.worker import workers

WORKERS_HEARD = 100


def tell(session: Session, worker_id: UUID, seconds_by_type: Mapping[str, float]) -> None:
    """Say how long handlers ran lately in one worker process, in seconds by job type."""
    said = update(workers).where(workers.c.id == worker_id).values(seconds_by_type=dict(seconds_by_type))
    session.execute(said)


def known(session: Session) -> dict[str, float]:
    """Seconds by job type; of several workers the one last heard of counts, also if it has stopped since.

    So a deploy forgets nothing: the rows of workers that stopped stay for a day.
    """
    told = workers.c.seconds_by_type
    heard = select(told).where(told.is_not(None)).order_by(workers.c.heartbeat_at.desc()).limit(WORKERS_HEARD)
    seconds: dict[str, float] = {}
    for one in reversed(session.scalars(heard).all()):
        seconds |= one
    return seconds
