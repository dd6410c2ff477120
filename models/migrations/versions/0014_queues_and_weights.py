"""What operators say of queues, and how much of a shared queue is each tenant's."""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", dialect.UtcTime(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("max_per_second", sa.Float(53), nullable=True),
        sa.Column("paced_until", dialect.UtcTime(), nullable=True),
        sa.CheckConstraint("(paused_at IS NULL) = (paused_by IS NULL)", name=op.f("queues_paused")),
        sa.CheckConstraint("max_running >= 1 AND max_per_second >= 0.001", name=op.f("queues_limits")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    # With its condition, since SQLite adds one to a table in no other way.
    op.execute(
        "ALTER TABLE tenants ADD COLUMN weight INTEGER DEFAULT 1 NOT NULL CONSTRAINT tenants_weight CHECK (weight >= 1)"
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
