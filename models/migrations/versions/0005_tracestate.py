"""The rest of W3C trace context, kept with the job."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("tracestate", sa.Text(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
