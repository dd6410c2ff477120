"""What dead letters are found and grouped by, and triggers that count them."""

import sqlalchemy as sa
from alembic import op

from models import dialect

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = "tenant_id, type, fingerprint, queue"
_KEY = f"{_COLUMNS}, part"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("error_type", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("fingerprint", sa.Text(), nullable=True))
    op.create_table(
        "dead_groups",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("since", dialect.UtcTime(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "type", "fingerprint", "queue", "part", name=op.f("pk_dead_groups")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("dead_groups_page", "dead_groups", ["tenant_id", "since", "type", "fingerprint"])
    op.create_index("dead_groups_page_of_all", "dead_groups", ["since", "type", "fingerprint", "tenant_id"])
    if op.get_bind().dialect.name == dialect.POSTGRESQL:
        _count_on_postgresql()
    else:
        _count_on_sqlite()


# By triggers, so that a move stays one statement, and whatever else takes a job to or from `dead` is counted too: a
# release that knows nothing of groups, or a person with psql.


def _count_on_postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION count_dead_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                IF {_counted("OLD")} THEN
                    {_one_less("OLD")};
                END IF;
            END IF;
            IF TG_OP <> 'DELETE' THEN
                IF {_counted("NEW")} THEN
                    {_one_more("NEW")};
                END IF;
            END IF;
            RETURN NULL;
        END $$
    """)
    changed = f"({_of('OLD')}, OLD.state) IS DISTINCT FROM ({_of('NEW')}, NEW.state)"
    for name, event, when in (
        ("inserted", "INSERT", _counted("NEW")),
        (
            "updated",
            "UPDATE OF state, type, fingerprint, queue",
            f"({_counted('OLD')} OR {_counted('NEW')}) AND {changed}",
        ),
        ("deleted", "DELETE", _counted("OLD")),
    ):
        op.execute(
            f"CREATE TRIGGER count_dead_jobs_{name} AFTER {event} ON jobs FOR EACH ROW "
            f"WHEN ({when}) EXECUTE FUNCTION count_dead_jobs()"
        )


def _count_on_sqlite() -> None:
    for name, event, row, change in (
        ("inserted", "INSERT", "NEW", _one_more),
        ("left", "UPDATE OF state, type, fingerprint, queue", "OLD", _one_less),
        ("joined", "UPDATE OF state, type, fingerprint, queue", "NEW", _one_more),
        ("deleted", "DELETE", "OLD", _one_less),
    ):
        op.execute(
            f"CREATE TRIGGER count_dead_jobs_{name} AFTER {event} ON jobs WHEN {_counted(row)} BEGIN {change(row)}; END"
        )


def _counted(row: str) -> str:
    return f"({row}.state = 'dead' AND {row}.fingerprint IS NOT NULL)"


def _of(row: str) -> str:
    return ", ".join(f"{row}.{column}" for column in _COLUMNS.split(", "))


def _key_of(row: str) -> str:
    """Counted in 8 parts: else all who die of one thing at once wait for each other's COMMIT. SQLite has one writer."""
    part = f"get_byte(uuid_send({row}.id), 15) % 8" if op.get_bind().dialect.name == dialect.POSTGRESQL else "0"
    return f"{_of(row)}, {part}"


# Of names that stand in this file.


def _one_more(row: str) -> str:
    added = f"INSERT INTO dead_groups ({_KEY}, since, count) VALUES ({_key_of(row)}, {row}.finished_at, 1)"  # noqa: S608
    return f"{added} ON CONFLICT ({_KEY}) DO UPDATE SET count = dead_groups.count + 1"


def _one_less(row: str) -> str:
    this = f"WHERE ({_KEY}) = ({_key_of(row)})"
    return f"UPDATE dead_groups SET count = count - 1 {this}; DELETE FROM dead_groups {this} AND count <= 0"  # noqa: S608


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: jobs made by a newer release would be lost.")
