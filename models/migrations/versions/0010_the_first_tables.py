"""The tables of the first release, with the triggers that fill the tags' table and guard the audit log.

The numbers begin at 10: databases of versions before the first release are at 1 to 5, and must not pass for this one's.
"""

import secrets

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models import dialect

revision = "0010"
down_revision = None
branch_labels = None
depends_on = None

_REFUSED = "the audit log is only ever added to"


def upgrade() -> None:
    _installation()
    _identity()
    _audit_log()
    _jobs()
    _job_tags()
    _job_events()


def _installation() -> None:
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
        sa.Column("consuming_at", dialect.UtcTime(), nullable=True),
        sa.Column("parent_pid", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        postgresql_with={"fillfactor": "50"},
    )


def _identity() -> None:
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
        sa.Column("last_used_at", dialect.UtcTime(), nullable=True),
        sa.Column("rate_limits", sa.JSON(), nullable=True),
        sa.Column("position", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index("api_keys_page", "api_keys", ["tenant_id", "position"])
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("signs_from", dialect.UtcTime(), nullable=False),
        sa.Column("retires_at", dialect.UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", dialect.UtcTime(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("detail", dialect.Document(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("audit_log_page", "audit_log", ["tenant_id", "id"])
    if op.get_bind().dialect.name != dialect.POSTGRESQL:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_log_no_{change.lower()} BEFORE {change} ON audit_log "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION jobmill_audit_log_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION jobmill_audit_log_is_kept()"
    )


def _jobs() -> None:
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
        sa.Column("tracestate", sa.Text(), nullable=True),
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
    op.create_index("jobs_list", "jobs", ["tenant_id", "id"])
    op.create_index("jobs_list_by_queue", "jobs", ["tenant_id", "queue", "id"])
    op.create_index("jobs_list_by_state", "jobs", ["tenant_id", "state", "id"])
    op.create_index("jobs_list_by_type", "jobs", ["tenant_id", "type", "id"])
    _partial("jobs_claim", "state = 'queued'", ["queue", "priority", "due_at", "id"])
    _partial("jobs_claim_expiry", "state = 'dispatched'", ["lease_expires_at"])
    _partial("jobs_dead", "state = 'dead'", ["tenant_id", "finished_at", "id"])
    _partial("jobs_dispatched", "state = 'dispatched'", ["queue", "dispatched_at"])
    _partial("jobs_finished", "finished_at IS NOT NULL", ["state", "finished_at"])
    _partial("jobs_idempotency_key", "idempotency_key IS NOT NULL", ["tenant_id", "idempotency_key"], unique=True)
    _partial("jobs_running", "state = 'running'", ["worker_id"])
    _partial(
        "jobs_unique_key",
        "unique_key IS NOT NULL AND state IN ('queued', 'dispatched', 'running')",
        ["tenant_id", "type", "unique_key"],
        unique=True,
    )
    _partial("jobs_list_by_unique_key", "unique_key IS NOT NULL", ["tenant_id", "unique_key", "id"])


def _partial(name: str, where: str, columns: list[str], *, unique: bool = False) -> None:
    op.create_index(name, "jobs", columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _job_tags() -> None:
    op.create_table(
        "job_tags",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_tags_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_tags")),
    )
    op.create_index("job_tags_list", "job_tags", ["name", "value", "tenant_id", "job_id"])
    # By a trigger, so that a submission is one statement, and whoever inserts a job need not think of it.
    if op.get_bind().dialect.name != dialect.POSTGRESQL:
        op.execute("""
            CREATE TRIGGER copy_job_tags AFTER INSERT ON jobs WHEN new.tags <> '{}'
            BEGIN
                INSERT INTO job_tags (job_id, name, value, tenant_id)
                SELECT new.id, tag.key, tag.value, new.tenant_id FROM json_each(new.tags) AS tag;
            END
        """)
        return
    op.execute("""
        CREATE FUNCTION copy_job_tags() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO job_tags (job_id, name, value, tenant_id)
            SELECT added.id, tag.key, tag.value, added.tenant_id
            FROM added, jsonb_each_text(added.tags) AS tag
            WHERE added.tags <> '{}';
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER copy_job_tags AFTER INSERT ON jobs REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION copy_job_tags()
    """)


def _job_events() -> None:
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
    op.create_index("job_events_of_job", "job_events", ["job_id", "id"])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
