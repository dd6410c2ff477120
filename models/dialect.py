"""What truly differs between PostgreSQL and SQLite, all in this one file.

SQLAlchemy hides most differences, and hides too much: it drops FOR UPDATE SKIP LOCKED on SQLite without
a word. So the two are told apart here, on purpose and in sight.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Float,
    Index,
    Select,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    literal,
    select,
    text,
    true,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSON as PG_JSON
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FromClause, FunctionElement, column
from sqlalchemy.types import TypeDecorator, TypeEngine

POSTGRESQL = "postgresql"
SQLITE = "sqlite"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """A moment: timestamptz on PostgreSQL, microseconds since 1970 on SQLite, an aware datetime in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """An integer on SQLite, which compares and adds without parsing."""
        return dialect.type_descriptor(BigInteger() if dialect.name == SQLITE else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database; a naive datetime is a bug and raises TypeError."""
        if value is None or dialect.name != SQLITE:
            return value
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database, always in UTC."""
        if value is None:
            return None
        moment: datetime = _EPOCH + value * _MICROSECOND if dialect.name == SQLITE else value.astimezone(UTC)
        return moment


class Document(TypeDecorator[Any]):
    """A JSON document, read back as it was written; None is NULL.

    On PostgreSQL `json`, not `jsonb`: jsonb would turn 1e22 into a 23-digit integer and reorder members. On
    SQLite text, not JSON: a column of that name has numeric affinity and would turn 1.0 into 1.
    """

    impl = JSON
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite."""
        return dialect.type_descriptor(Text() if dialect.name == SQLITE else JSON(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """To the database."""
        return value if value is None or dialect.name != SQLITE else orjson.dumps(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """From the database."""
        return value if value is None or dialect.name != SQLITE else orjson.loads(value)


class now(FunctionElement[datetime]):  # noqa: N801 - it reads as the SQL function it is
    """The database's clock; within a statement it stands still, so that indexes can be searched with it."""

    type = UtcTime()
    inherit_cache = True


@compiles(now, POSTGRESQL)
def _now_postgresql(_element: now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "statement_timestamp()"


@compiles(now, SQLITE)
def _now_sqlite(_element: now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "jobmill_now()"  # models.database adds this function to each connection


class later(FunctionElement[datetime]):  # noqa: N801
    """The moment so many seconds (an expression; negative for earlier) from `now()`."""

    type = UtcTime()
    inherit_cache = True


@compiles(later, POSTGRESQL)
def _later_postgresql(element: later, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(later, SQLITE)
def _later_sqlite(element: later, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(jobmill_now() + CAST(1000000 * {compiler.process(element.clauses, **kw)} AS INTEGER))"


def seconds_from_now(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    """The moment `seconds` from now by the database's clock."""
    return later(cast(seconds, Float(53)))


def given(dialect: str, /, alias: str = "given", **columns: type) -> FromClause:
    """A set of rows passed as the one parameter `rows`, to join with; make it with `rows_parameter`.

    One JSON document instead of a VALUES list keeps the statement's text the same whatever the size of the
    set, so SQLAlchemy's compiled form and PostgreSQL's prepared plan are reused.
    """
    document: Any = bindparam("rows", type_=Text())
    types = {name: _SQL_TYPES[kind] for name, kind in columns.items()}
    if dialect == POSTGRESQL:
        function = func.json_to_recordset(cast(document, PG_JSON))
        return function.table_valued(*(column(name, kind) for name, kind in types.items())).render_derived(
            name=alias, with_types=True
        )
    item = func.json_each(document).table_valued("value", name="item")
    values = {name: func.json_extract(item.c.value, f"$.{name}") for name in types}
    # Ids are kept without hyphens there.
    plain = {name: func.replace(values[name], "-", "") for name, kind in columns.items() if kind is UUID}
    extracted = (cast(value, types[name]).label(name) for name, value in (values | plain).items())
    return select(*extracted).subquery(alias)


def looked_up(dialect: str, key: ColumnElement[UUID], ids: Select[Any]) -> ColumnElement[bool]:
    """Whether a primary key is among `ids`, searched for one by one.

    PostgreSQL takes 100 rows for any recordset, and would sooner read a whole index or table to join with
    that; an array it takes for short. SQLite needs no such hint.
    """
    if dialect != POSTGRESQL:
        return true()
    return key == any_(func.array(ids.scalar_subquery(), type_=postgresql.ARRAY(Uuid())))


def among(dialect: str, key: ColumnElement[UUID], ids: Select[Any]) -> ColumnElement[bool]:
    """Whether a primary key is among `ids`, which say nothing else: a join besides would compare each with each."""
    return looked_up(dialect, key, ids) if dialect == POSTGRESQL else key.in_(ids)


_SQL_TYPES: dict[type, TypeEngine[Any]] = {UUID: Uuid(), int: BigInteger(), float: Float(53), str: Text()}


def rows_parameter(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parameter for `given`: values are UUID, int, finite float, str or None."""
    return {"rows": orjson.dumps(rows, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()}


def new_rows(
    dialect: str, table: Table, plain: Sequence[str], **further: TypeEngine[Any]
) -> tuple[dict[str, ColumnElement[Any]], dict[str, ColumnElement[Any]]]:
    """Rows to insert, passed by `new_rows_parameters`: their columns as they are, and what others are made of.

    PostgreSQL gets them as one JSON document. A thousand rows of VALUES have twenty thousand parameters, and to write
    and read that statement took most of half a second. SQLite takes each row's parameters as they are.
    """
    if dialect != POSTGRESQL:
        return {}, {name: bindparam(name, type_=kind) for name, kind in further.items()}
    kinds = {name: table.c[name].type for name in plain} | further
    function = func.json_to_recordset(cast(bindparam("rows", type_=Text()), PG_JSON))
    rows = function.table_valued(*(column(name, kind) for name, kind in kinds.items())).render_derived(
        name="new", with_types=True
    )
    return {name: rows.c[name] for name in plain}, {name: rows.c[name] for name in further}


def new_rows_parameters(dialect: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The parameters for a statement over `new_rows`."""
    return {"rows": orjson.dumps(rows, default=_bytea).decode()} if dialect == POSTGRESQL else rows


def _bytea(value: object) -> str:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"a new row takes no {type(value).__name__}")


def insert_or_ignore(dialect: str, table: Table) -> Any:
    """An INSERT that leaves rows alone that some unique rule refuses; the dialects spell it alike, apart."""
    insert = postgresql.insert if dialect == POSTGRESQL else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def insert_or_change(
    dialect: str, table: Table, key: Column[Any], names: Sequence[str], row: Any, only_if: ColumnElement[bool]
) -> Any:
    """An INSERT of a row that changes the one that has its key already, if that one allows it."""
    insert = (postgresql.insert if dialect == POSTGRESQL else sqlite.insert)(table).from_select(list(names), row)
    changed = {name: insert.excluded[name] for name in names}
    return insert.on_conflict_do_update(index_elements=[key], set_=changed, where=only_if)


def insert_or_keep(dialect: str, table: Table, key: Column[Any]) -> Any:
    """An INSERT that keeps the row that has the key already, and returns and locks that as it would a new one."""
    insert = (postgresql.insert if dialect == POSTGRESQL else sqlite.insert)(table)
    return insert.on_conflict_do_update(index_elements=[key], set_={key.name: key})


def insert_new_or_ignore(dialect: str, table: Table, values: Mapping[str, Any]) -> Any:
    """The same of `new_rows`."""
    insert = insert_or_ignore(dialect, table)
    if dialect != POSTGRESQL:
        return insert.values(values)
    told = (value if isinstance(value, ColumnElement) else literal(value) for value in values.values())
    return insert.from_select(list(values), select(*told))


def dialect_of(session: Session) -> str:
    """`postgresql` or `sqlite`."""
    return session.get_bind().dialect.name


def first_of_each(dialect: str, rows: FromClause, found: Select[Any], most: ColumnElement[int]) -> Select[Any]:
    """The ids that `found`, a query that names columns of `rows`, gives for each of them, so many of each at most.

    PostgreSQL has LATERAL, and locks what it finds. SQLite has a function over an array instead, and no limit that
    differs from row to row: it finds up to the most for each, and leaves out what is too much.
    """
    if dialect == POSTGRESQL:
        each = locked(found.limit(most), dialect).lateral("each")
        return select(each.c.id).select_from(rows.join(each, true()))
    bounded = found.correlate(rows).limit(bindparam("most_of_any")).subquery("bounded")
    gathered = select(func.json_group_array(bounded.c.id)).correlate(rows).scalar_subquery()
    item = func.json_each(gathered).table_valued("key", "value", name="item")
    return select(type_coerce(item.c.value, Uuid()).label("id")).select_from(rows, item).where(item.c.key < most)


def index_names(connection: Connection, table: str) -> set[str]:
    """The names of a table's indexes; none for a table that is not there."""
    catalog = {
        POSTGRESQL: "SELECT indexname FROM pg_indexes WHERE tablename = :name AND schemaname = current_schema()",
        SQLITE: "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = :name",
    }
    return set(connection.execute(text(catalog[connection.dialect.name]), {"name": table}).scalars())


def of_expression(index: Index) -> bool:
    """Whether an index is of more than columns, which SQLAlchemy cannot read back from SQLite."""
    return not all(isinstance(part, Column) for part in index.expressions)


@contextmanager
def unseen_expressions() -> Iterator[None]:
    """Without SQLAlchemy's warnings that it does not see such an index."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* expression-based index")
        yield


def locked(query: Select[Any], dialect: str) -> Select[Any]:
    """The query with its rows locked, those that others hold left out; SQLite has one writer and needs none."""
    return query.with_for_update(skip_locked=True) if dialect == POSTGRESQL else query


def held(query: Select[Any], dialect: str) -> Select[Any]:
    """The query with its rows locked, those that others hold waited for; on SQLite whoever writes is alone."""
    return query.with_for_update() if dialect == POSTGRESQL else query


def held_alike(query: Select[Any], dialect: str) -> Select[Any]:
    """Like `held`, but rows that refer to those may be added meanwhile: a foreign key waits for FOR UPDATE."""
    return query.with_for_update(key_share=True) if dialect == POSTGRESQL else query


def document(text: ColumnElement[str], dialect: str) -> ColumnElement[Any]:
    """A JSON text as a value for a document column; on SQLite documents are texts."""
    return cast(text, PG_JSON) if dialect == POSTGRESQL else type_coerce(text, Text)
