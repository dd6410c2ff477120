"""The mark of the secret key that an installation uses, by which a process with another one is known."""

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from models.dialect import dialect_of, insert_or_ignore
from models.identity import installation

_NAME = "mark of the secret key"
_c = installation.c


def find(session: Session) -> bytes | None:
    """The mark, if one was kept."""
    return session.scalars(select(_c.value).where(_c.name == _NAME)).one_or_none()


def keep_first(session: Session, mark: bytes) -> bytes:
    """Keep a mark unless there is one; gives the one that holds."""
    session.execute(insert_or_ignore(dialect_of(session), installation).values(name=_NAME, value=mark))
    kept: bytes = session.execute(select(_c.value).where(_c.name == _NAME)).scalar_one()
    return kept


def replace(session: Session, mark: bytes) -> None:
    """Keep this mark from now on."""
    session.execute(delete(installation).where(_c.name == _NAME))
    session.execute(insert(installation).values(name=_NAME, value=mark))
