"""Indexes for each filter of the list of dead letters."""

from models.migrations import online

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, columns in {
        "jobs_dead_by_type": ["tenant_id", "type", "finished_at", "id"],
        "jobs_dead_by_queue": ["tenant_id", "queue", "finished_at", "id"],
        "jobs_dead_by_error": ["tenant_id", "error_type", "finished_at", "id"],
        "jobs_dead_by_group": ["tenant_id", "type", "fingerprint", "finished_at", "id"],
        "jobs_dead_oldest": ["queue", "type", "finished_at"],
    }.items():
        online.create_index(name, "jobs", columns, where="state = 'dead'")


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
