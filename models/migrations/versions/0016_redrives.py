"""Redrives, and the letters that were pinned for them."""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_FATES = ("replayed", "failing", "succeeded_again", "died_again", "ended_otherwise", "discarded", "skipped")
_COUNTS = ("matched", "handled", "swept", *_FATES)


def upgrade() -> None:
    _redrives()
    _letters()


def _redrives() -> None:
    op.create_table(
        "redrives",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("filter", dialect.Document(), nullable=False),
        sa.Column("rate_per_second", sa.Float(53), nullable=False),
        sa.Column("ramp_seconds", sa.Float(53), nullable=False),
        sa.Column("abort_when_failure_ratio", sa.Float(53), nullable=True),
        sa.Column("priority", sa.SmallInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", dialect.UtcTime(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("finished_at", dialect.UtcTime(), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _COUNTS),
        sa.Column("active_seconds", sa.Float(53), nullable=False),
        sa.Column("credit", sa.Float(53), nullable=False),
        sa.Column("stepped_at", dialect.UtcTime(), nullable=True),
        sa.Column("recent", sa.Text(), nullable=False),
        sa.Column("last_handled_at", dialect.UtcTime(), nullable=True),
        sa.Column("steered_at", dialect.UtcTime(), nullable=True),
        sa.CheckConstraint("action IN ('replay', 'discard')", name=op.f("ck_redrives_action")),
        sa.CheckConstraint(
            "state IN ('running', 'paused', 'succeeded', 'aborted', 'cancelled')", name=op.f("ck_redrives_state")
        ),
        sa.CheckConstraint(
            "(finished_at IS NULL) = (state IN ('running', 'paused'))", name=op.f("ck_redrives_finished")
        ),
        sa.CheckConstraint("handled BETWEEN 0 AND matched", name=op.f("ck_redrives_handled")),
        sa.ForeignKeyConstraint(["id"], ["jobs.id"], name=op.f("fk_redrives_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redrives")),
    )
    op.create_index("redrives_page", "redrives", ["tenant_id", "id"])


def _letters() -> None:
    op.create_table(
        "redrive_letters",
        sa.Column("redrive_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("fate", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "fate IN ({})".format(", ".join(f"'{fate}'" for fate in _FATES)), name=op.f("ck_redrive_letters_fate")
        ),
        sa.ForeignKeyConstraint(
            ["redrive_id"], ["redrives.id"], name=op.f("fk_redrive_letters_redrive_id_redrives"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("redrive_id", "place", name=op.f("pk_redrive_letters")),
    )
    unanswered = sa.text("fate IN ('replayed', 'failing')")
    op.create_index(
        "redrive_letters_unanswered",
        "redrive_letters",
        ["redrive_id", "place"],
        sqlite_where=unanswered,
        postgresql_where=unanswered,
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
