"""Indexes of jobs by their gate: those that wait, those in hand, and dead letters; and of gates by their use."""

import sqlalchemy as sa

from models.migrations import online

revision = "0017a"
down_revision = "0017"
branch_labels = None
depends_on = None

_WAITS = "dispatched_at IS NULL AND finished_at IS NULL"


def upgrade() -> None:
    share = sa.text("coalesce(gate_id, tenant_id)")
    online.create_index(
        "jobs_claim_by_gate", "jobs", ["priority", share, "due_at", "id"], where=f"queue = 'webhooks' AND {_WAITS}"
    )
    in_hand = "gate_id IS NOT NULL AND dispatched_at IS NOT NULL AND finished_at IS NULL"
    online.create_index("jobs_in_hand_by_gate", "jobs", ["gate_id"], where=in_hand)
    dead = "state = 'dead' AND gate_id IS NOT NULL"
    online.create_index("jobs_dead_by_gate", "jobs", ["gate_id", "finished_at", "id"], where=dead)
    online.create_index("gates_used_at", "gates", ["used_at"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
