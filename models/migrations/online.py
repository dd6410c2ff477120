"""What a revision does to a table that may be large, `jobs` and what hangs on it, while requests and workers go on.

A revision holds its locks until it ends. ALTER TABLE with a constant default is over at once; an index or a backfill
within the transaction would hold up every submission for as long as it takes. So these run outside of one, in a
revision that does nothing else: one that is ended half-way is done again from its beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from alembic import op

from models import dialect
from models.migrations import limits

BATCH = 5_000


def create_index(name: str, table: str, columns: Sequence[str | sa.TextClause], *, where: str | None = None) -> None:
    """Make an index that nobody waits for. What a revision that was ended left half made goes first."""
    condition = sa.text(where) if where else None
    if op.get_bind().dialect.name != dialect.POSTGRESQL:
        op.create_index(name, table, columns, sqlite_where=condition)
        return
    with _outside_transactions():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, columns, postgresql_where=condition, postgresql_concurrently=True)


def drop_index(name: str, table: str) -> None:
    """Drop an index that nothing of this release or the one before it needs; nobody waits for that either."""
    if op.get_bind().dialect.name != dialect.POSTGRESQL:
        op.drop_index(name, table)
        return
    with _outside_transactions():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def set_storage(table: str, parameters: str) -> None:
    """Set PostgreSQL's storage parameters of a table. That waits for a vacuum of it, and keeps nobody from its rows."""
    if op.get_bind().dialect.name == dialect.POSTGRESQL:
        with _outside_transactions():
            op.execute(f"ALTER TABLE {table} SET ({parameters})")


def in_batches(statement: str, table: str, size: int = BATCH) -> None:
    """Execute a statement over all rows of a table with a UUID as `id`, `size` at a time, each in its own transaction.

    It takes the rows with `id > :after AND id <= :upto`, and must bear being done twice.
    """
    if op.get_bind().dialect.name != dialect.POSTGRESQL:
        _batches(statement, table, size)
        return
    with _outside_transactions():
        _batches(statement, table, size)


def _batches(statement: str, table: str, size: int) -> None:
    key = sa.column("id", sa.Uuid())
    update = sa.text(statement).bindparams(
        sa.bindparam("after", type_=sa.Uuid()), sa.bindparam("upto", type_=sa.Uuid())
    )
    after = UUID(int=0)
    while True:
        batch = sa.select(key).select_from(sa.table(table)).where(key > after).order_by(key).limit(size).subquery()
        upto = op.get_bind().scalar(sa.select(batch.c.id).order_by(batch.c.id.desc()).limit(1))
        if upto is None:
            return
        op.get_bind().execute(update, {"after": after, "upto": upto})
        after = upto


def filled(rows: sa.Select[Any], fill: Callable[[Sequence[Any]], None]) -> None:
    """Have `fill` change what `rows` selects, which it must select no more then, a batch at a time and a transaction.

    For what no statement can compute.
    """
    with _outside_transactions() if op.get_bind().dialect.name == dialect.POSTGRESQL else nullcontext():
        while found := op.get_bind().execute(rows.limit(BATCH)).all():
            fill(found)


@contextmanager
def _outside_transactions() -> Iterator[None]:
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{limits.LONG_LOCK_TIMEOUT}'")
        yield
        op.execute(f"SET lock_timeout = '{limits.LOCK_TIMEOUT}'")
