"""Workers say how long jobs of each type take, so that the dispatcher puts short ones together."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017b"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("seconds_by_type", sa.JSON(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
