"""How far a queue is behind: one question, as cheap with a million waiting jobs as with one."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.dialect import now
from models.lineup import lanes


def oldest_due(session: Session, queue: str) -> timedelta:
    """How long the job of the queue that is due longest has waited; zero if none is due."""
    due = [lane.due_at for lane in lanes(session, queue) if lane.due]
    return session.execute(select(now())).scalar_one() - min(due) if due else timedelta(0)
