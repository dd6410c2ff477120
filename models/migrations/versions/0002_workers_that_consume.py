"""Tell a worker that consumes from one that merely lives, and by whom it is watched."""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("consuming_at", dialect.UtcTime(), nullable=True))
    op.add_column("workers", sa.Column("parent_pid", sa.Integer(), nullable=True))
    op.execute("UPDATE workers SET consuming_at = started_at")
    if op.get_bind().dialect.name == dialect.POSTGRESQL:
        # Workers of the release before know nothing of the column and consume as soon as they register; without
        # this, a dispatcher of this release would send them nothing. No two releases share a SQLite file.
        op.execute("ALTER TABLE workers ALTER COLUMN consuming_at SET DEFAULT now()")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
