"""Fingerprints for the jobs that are dead already."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from models import dialect
from models.fingerprint import error_type, fingerprint
from models.migrations import online

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_JOBS = sa.table(
    "jobs",
    sa.column("id", sa.Uuid()),
    sa.column("state", sa.Text()),
    sa.column("error", dialect.Document()),
    sa.column("error_type", sa.Text()),
    sa.column("fingerprint", sa.Text()),
)


def upgrade() -> None:
    dead = sa.select(_JOBS.c.id, _JOBS.c.error).where(sa.text("state = 'dead'"), _JOBS.c.fingerprint.is_(None))
    online.filled(dead, _fill)


def _fill(rows: Sequence[Any]) -> None:
    # Guarded: one may be redriven meanwhile, and dead of something else.
    told = sa.update(_JOBS).where(
        _JOBS.c.id == sa.bindparam("of_id"), _JOBS.c.fingerprint.is_(None), _JOBS.c.state == "dead"
    )
    op.get_bind().execute(
        told.values(error_type=sa.bindparam("told_type"), fingerprint=sa.bindparam("told_fingerprint")),
        [
            {"of_id": row.id, "told_type": error_type(row.error), "told_fingerprint": fingerprint(row.error)}
            for row in rows
        ],
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
