"""The first tables."""

import secrets

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models import dialect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
    )
    secret = sa.table("installation", sa.column("name", sa.Text()), sa.column("value", sa.LargeBinary()))
    op.bulk_insert(secret, [{"name": "secret", "value": secrets.token_bytes(32)}])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("expires_at", dialect.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("queues", sa.JSON(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", dialect.UtcTime(), nullable=False),
        sa.Column("heartbeat_at", dialect.UtcTime(), nullable=False),
        sa.Column("draining_at", dialect.UtcTime(), nullable=True),
        sa.Column("stopped_at", dialect.UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("expires_at", dialect.UtcTime(), nullable=True),
        sa.Column("revoked_at", dialect.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("args", dialect.Document(), nullable=False),
        sa.Column("result", dialect.Document(), nullable=True),
        sa.Column("error", dialect.Document(), nullable=True),
        sa.Column("progress_percent", sa.Float(precision=53), nullable=True),
        sa.Column("progress_message", sa.Text(), nullable=True),
        sa.Column("checkpoint", dialect.Document(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("timeout_seconds", sa.Integer(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", dialect.UtcTime(), nullable=True),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("due_at", dialect.UtcTime(), nullable=False),
        sa.Column("dispatched_at", dialect.UtcTime(), nullable=True),
        sa.Column("started_at", dialect.UtcTime(), nullable=True),
        sa.Column("finished_at", dialect.UtcTime(), nullable=True),
        sa.Column("cancel_requested_at", dialect.UtcTime(), nullable=True),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("schedule_id", sa.Uuid(), nullable=True),
        sa.Column(
            "tags", sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql"), nullable=False
        ),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state <> 'cancelled' OR (finished_at IS NOT NULL AND cancel_requested_at IS NOT NULL AND lease_expires_at IS NULL AND result IS NULL)",
            name=op.f("jobs_shape_cancelled"),
        ),
        sa.CheckConstraint(
            "state <> 'dead' OR (dispatched_at IS NOT NULL AND started_at IS NOT NULL AND worker_id IS NOT NULL AND finished_at IS NOT NULL AND error IS NOT NULL AND lease_expires_at IS NULL AND result IS NULL)",
            name=op.f("jobs_shape_dead"),
        ),
        sa.CheckConstraint(
            "state <> 'discarded' OR (dispatched_at IS NOT NULL AND started_at IS NOT NULL AND worker_id IS NOT NULL AND finished_at IS NOT NULL AND error IS NOT NULL AND lease_expires_at IS NULL AND result IS NULL)",
            name=op.f("jobs_shape_discarded"),
        ),
        sa.CheckConstraint(
            "state <> 'dispatched' OR (dispatched_at IS NOT NULL AND lease_expires_at IS NOT NULL AND started_at IS NULL AND finished_at IS NULL AND worker_id IS NULL AND result IS NULL AND cancel_requested_at IS NULL)",
            name=op.f("jobs_shape_dispatched"),
        ),
        sa.CheckConstraint(
            "state <> 'queued' OR (dispatched_at IS NULL AND lease_expires_at IS NULL AND started_at IS NULL AND finished_at IS NULL AND worker_id IS NULL AND result IS NULL AND cancel_requested_at IS NULL)",
            name=op.f("jobs_shape_queued"),
        ),
        sa.CheckConstraint(
            "state <> 'running' OR (dispatched_at IS NOT NULL AND started_at IS NOT NULL AND worker_id IS NOT NULL AND lease_expires_at IS NULL AND finished_at IS NULL AND result IS NULL)",
            name=op.f("jobs_shape_running"),
        ),
        sa.CheckConstraint(
            "state <> 'succeeded' OR (dispatched_at IS NOT NULL AND started_at IS NOT NULL AND worker_id IS NOT NULL AND finished_at IS NOT NULL AND lease_expires_at IS NULL AND error IS NULL)",
            name=op.f("jobs_shape_succeeded"),
        ),
        sa.CheckConstraint("state IN ('queued', 'cancelled') OR lease > 0", name=op.f("jobs_leased")),
        sa.CheckConstraint(
            "state IN ('queued', 'dispatched', 'running', 'succeeded', 'dead', 'cancelled', 'discarded')",
            name=op.f("jobs_state"),
        ),
        sa.CheckConstraint("attempt >= 0 AND lost >= 0 AND lease >= 0", name=op.f("jobs_counters")),
        sa.CheckConstraint("max_attempts >= 1 AND timeout_seconds >= 1", name=op.f("jobs_bounds")),
        sa.CheckConstraint("priority BETWEEN -100 AND 100", name=op.f("jobs_priority")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jobs_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "jobs_claim",
        "jobs",
        ["queue", "priority", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "jobs_claim_expiry",
        "jobs",
        ["lease_expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'dispatched'"),
        postgresql_where=sa.text("state = 'dispatched'"),
    )
    op.create_index(
        "jobs_dead",
        "jobs",
        ["tenant_id", "finished_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "jobs_dispatched",
        "jobs",
        ["queue", "dispatched_at"],
        unique=False,
        sqlite_where=sa.text("state = 'dispatched'"),
        postgresql_where=sa.text("state = 'dispatched'"),
    )
    op.create_index(
        "jobs_finished",
        "jobs",
        ["state", "finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "jobs_idempotency_key",
        "jobs",
        ["tenant_id", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index("jobs_list", "jobs", ["tenant_id", "id"], unique=False)
    op.create_index("jobs_list_by_queue", "jobs", ["tenant_id", "queue", "id"], unique=False)
    op.create_index("jobs_list_by_state", "jobs", ["tenant_id", "state", "id"], unique=False)
    op.create_index("jobs_list_by_type", "jobs", ["tenant_id", "type", "id"], unique=False)
    op.create_index(
        "jobs_running",
        "jobs",
        ["worker_id"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "jobs_unique_key",
        "jobs",
        ["tenant_id", "type", "unique_key"],
        unique=True,
        sqlite_where=sa.text("unique_key IS NOT NULL AND state IN ('queued', 'dispatched', 'running')"),
        postgresql_where=sa.text("unique_key IS NOT NULL AND state IN ('queued', 'dispatched', 'running')"),
    )

    op.create_table(
        "job_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("at", dialect.UtcTime(), nullable=False),
        sa.Column("move", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", dialect.Document(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
    )
    op.create_index("job_events_of_job", "job_events", ["job_id", "id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
