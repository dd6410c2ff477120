"""Deliveries of webhooks are found by the job they tell of without its tenant, whom nobody knows once it was pruned."""

from models.migrations import online

revision = "0017b"
down_revision = "0017a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    online.create_index("webhook_deliveries_by_job", "webhook_deliveries", ["job_id", "id"], where="job_id IS NOT NULL")
    # Older processes ask by tenant and job, which the new one answers as well.
    online.drop_index("webhook_deliveries_of_job", "webhook_deliveries")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
