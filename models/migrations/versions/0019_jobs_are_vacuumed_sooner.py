"""Have `jobs` vacuumed ten times as soon as PostgreSQL would by itself."""

from models.migrations import online

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    online.set_storage("jobs", "autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
