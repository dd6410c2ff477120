"""Lists of jobs by tag and by unique key.

A trigger copies the tags: so a submission is still one statement, and the tags of jobs that processes of the release
before submit are found as well.
"""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COPY = {
    dialect.POSTGRESQL: (
        """
        CREATE FUNCTION copy_job_tags() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO job_tags (job_id, name, value, tenant_id)
            SELECT added.id, tag.key, tag.value, added.tenant_id
            FROM added, jsonb_each_text(added.tags) AS tag
            WHERE added.tags <> '{}';
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER copy_job_tags AFTER INSERT ON jobs REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION copy_job_tags()
        """,
        """
        INSERT INTO job_tags (job_id, name, value, tenant_id)
        SELECT jobs.id, tag.key, tag.value, jobs.tenant_id
        FROM jobs, jsonb_each_text(jobs.tags) AS tag
        WHERE jobs.tags <> '{}'
        """,
    ),
    dialect.SQLITE: (
        """
        CREATE TRIGGER copy_job_tags AFTER INSERT ON jobs WHEN new.tags <> '{}'
        BEGIN
            INSERT INTO job_tags (job_id, name, value, tenant_id)
            SELECT new.id, tag.key, tag.value, new.tenant_id FROM json_each(new.tags) AS tag;
        END
        """,
        """
        INSERT INTO job_tags (job_id, name, value, tenant_id)
        SELECT jobs.id, tag.key, tag.value, jobs.tenant_id
        FROM jobs, json_each(jobs.tags) AS tag
        WHERE jobs.tags <> '{}'
        """,
    ),
}


def upgrade() -> None:
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
    op.create_index(
        "jobs_list_by_unique_key",
        "jobs",
        ["tenant_id", "unique_key", "id"],
        sqlite_where=sa.text("unique_key IS NOT NULL"),
        postgresql_where=sa.text("unique_key IS NOT NULL"),
    )
    for statement in _COPY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
