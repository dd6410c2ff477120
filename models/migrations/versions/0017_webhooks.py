"""Webhook endpoints, their secrets and deliveries, and the gates that deliveries pass."""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _jobs()
    _gates()
    _endpoints()
    _secrets()
    _deliveries()


def _jobs() -> None:
    op.add_column("jobs", sa.Column("gate_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("webhook", dialect.Document(), nullable=True))


def _gates() -> None:
    op.create_table(
        "gates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("leads_to", sa.Text(), nullable=False),
        sa.Column("unanswered", sa.Integer(), nullable=False),
        sa.Column("failing_since", dialect.UtcTime(), nullable=True),
        sa.Column("closed_until", dialect.UtcTime(), nullable=True),
        sa.Column("used_at", dialect.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gates_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gates")),
    )


def _endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", dialect.Document(), nullable=False),
        sa.Column("types", dialect.Document(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_webhook_endpoints_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index("webhook_endpoints_page", "webhook_endpoints", ["tenant_id", "id"])


def _secrets() -> None:
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("ends_at", dialect.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_webhook_secrets_tenant_id")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_secrets_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index("webhook_secrets_of", "webhook_secrets", ["tenant_id", "endpoint_id"])


def _deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("answered_at", dialect.UtcTime(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["id"], ["jobs.id"], name=op.f("fk_webhook_deliveries_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index("webhook_deliveries_of_endpoint", "webhook_deliveries", ["tenant_id", "endpoint_id", "id"])
    op.create_index("webhook_deliveries_of_job", "webhook_deliveries", ["tenant_id", "job_id", "id"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
