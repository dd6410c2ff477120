"""Messages that RabbitMQ could not deliver, and that start no job."""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0015"
down_revision = "0014a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "undeliverable",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.BigInteger(), nullable=False),
        sa.Column("headers", dialect.Document(), nullable=False),
        sa.Column("properties", dialect.Document(), nullable=False),
        sa.Column("dead_lettered_at", dialect.UtcTime(), nullable=True),
        sa.Column("collected_at", dialect.UtcTime(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "reason IN ('undecodable', 'too_large', 'unknown_actor', 'foreign', 'delivery_limit', 'unknown_job')",
            name=op.f("ck_undeliverable_reason"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_undeliverable")),
    )
    op.create_index("undeliverable_of_a_kind", "undeliverable", ["queue", "reason", "id"])
    op.create_index("undeliverable_digest", "undeliverable", ["digest"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
