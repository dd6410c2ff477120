"""Keys that tell of their use, tokens, and a log of who changed what."""

import sqlalchemy as sa
from alembic import op

from models import dialect
from models.ids import new_id

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_REFUSED = "the audit log is only ever added to"


def upgrade() -> None:
    _api_keys()
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
    _only_added_to()


def _api_keys() -> None:
    op.add_column("api_keys", sa.Column("position", sa.Uuid(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", dialect.UtcTime(), nullable=True))
    op.add_column("api_keys", sa.Column("rate_limits", sa.JSON(), nullable=True))
    keys = sa.table("api_keys", sa.column("id", sa.Text()), sa.column("position", sa.Uuid()), sa.column("created_at"))
    connection = op.get_bind()
    for (key_id,) in connection.execute(sa.select(keys.c.id).order_by(keys.c.created_at, keys.c.id)).all():
        connection.execute(keys.update().where(keys.c.id == key_id).values(position=new_id()))
    if connection.dialect.name == dialect.POSTGRESQL:
        # The release before knows nothing of the column; its keys come out somewhere in the list, but do.
        op.execute("ALTER TABLE api_keys ALTER COLUMN position SET DEFAULT gen_random_uuid()")
    op.create_index("api_keys_page", "api_keys", ["tenant_id", "position"])


def _only_added_to() -> None:
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


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
