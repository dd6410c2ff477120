"""An index of waiting jobs by tenant, so that a claim can take from each."""

from models.migrations import online

revision = "0014a"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = ["queue", "priority", "tenant_id", "due_at", "id"]
    online.create_index("jobs_claim_by_tenant", "jobs", columns, where="dispatched_at IS NULL AND finished_at IS NULL")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
