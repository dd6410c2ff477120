"""The keys that sign our tokens: the table and every statement over it. Private halves are kept encrypted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, LargeBinary, Table, Text, insert, select, update
from sqlalchemy.orm import Session

from models.dialect import UtcTime, now, seconds_from_now
from models.schema import metadata

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("private_key", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # Published before it signs, and after it signs no more, so that whoever keeps the keys a while knows it in time.
    Column("signs_from", UtcTime, nullable=False),
    Column("retires_at", UtcTime),
)
_c = signing_keys.c


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key pair; `private_key` is encrypted. `signs` if its time to sign has come."""

    id: str
    public_key: bytes
    private_key: bytes
    created_at: datetime
    signs_from: datetime
    retires_at: datetime | None
    signs: bool


def list_published(session: Session) -> list[SigningKey]:
    """The keys that a token may be signed with, newest first."""
    query = select(signing_keys, (_c.signs_from <= now()).label("signs")).where(
        _c.retires_at.is_(None) | (_c.retires_at > now())
    )
    rows = session.execute(query.order_by(_c.signs_from.desc(), _c.id)).mappings()
    return [SigningKey(**{**row, "signs": bool(row["signs"])}) for row in rows]


def add(session: Session, key_id: str, public_key: bytes, private_key: bytes, signs_in: timedelta) -> None:
    """Keep a key that signs from then on."""
    values = {"id": key_id, "public_key": public_key, "private_key": private_key, "created_at": now()}
    session.execute(insert(signing_keys).values(**values, signs_from=seconds_from_now(signs_in.total_seconds())))


def retire_all(session: Session, retires_in: timedelta, but: Sequence[str] = ()) -> None:
    """Let every key that has no end yet, or a later one, end then."""
    end = seconds_from_now(retires_in.total_seconds())
    unended = _c.retires_at.is_(None) | (_c.retires_at > end)
    session.execute(update(signing_keys).where(unended, _c.id.not_in(but)).values(retires_at=end))
