"""What differs between the dialects, as far as it shows without a database."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from models.dialect import (
    POSTGRESQL,
    SQLITE,
    Document,
    UtcTime,
    given,
    locked,
    now,
    rows_parameter,
    seconds_from_now,
)
from models.job import in_state, jobs
from models.states import State

DIALECTS = {POSTGRESQL: postgresql.dialect(), SQLITE: sqlite.dialect()}
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)


def _sql(expression: object, dialect: str) -> str:
    compiled = expression.compile(dialect=DIALECTS[dialect], compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return " ".join(str(compiled).split())


@pytest.mark.parametrize("moment", [MOMENT, datetime(1969, 12, 31, 23, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
def test_a_moment_survives_sqlite_to_the_microsecond(moment: datetime) -> None:
    kept = UtcTime().process_bind_param(moment, DIALECTS[SQLITE])

    assert isinstance(kept, int)
    assert UtcTime().process_result_value(kept, DIALECTS[SQLITE]) == moment


def test_a_moment_of_another_zone_comes_back_in_utc() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=45)))

    kept = UtcTime().process_bind_param(elsewhere, DIALECTS[SQLITE])
    for read in (
        UtcTime().process_result_value(kept, DIALECTS[SQLITE]),
        UtcTime().process_result_value(elsewhere, DIALECTS[POSTGRESQL]),
    ):
        assert read == MOMENT
        assert read.tzinfo is UTC


def test_a_moment_without_a_zone_is_a_bug() -> None:
    with pytest.raises(TypeError):
        UtcTime().process_bind_param(datetime(2024, 1, 1), DIALECTS[SQLITE])  # noqa: DTZ001


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_moment_is_no_moment(dialect: str) -> None:
    assert UtcTime().process_bind_param(None, DIALECTS[dialect]) is None
    assert UtcTime().process_result_value(None, DIALECTS[dialect]) is None


@pytest.mark.parametrize("value", [{"b": 1, "a": [1e22, "ü\x00"]}, 1.0, 1, 0, "5", "", True, []], ids=repr)
def test_a_document_survives_sqlite_with_its_types(value: object) -> None:
    read = Document().process_result_value(Document().process_bind_param(value, DIALECTS[SQLITE]), DIALECTS[SQLITE])

    assert (read, type(read)) == (value, type(value))


def test_a_document_column_of_sqlite_has_no_numeric_affinity() -> None:
    assert Document().compile(dialect=DIALECTS[SQLITE]) == "TEXT"
    assert Document().compile(dialect=DIALECTS[POSTGRESQL]) == "JSON"


def test_rows_are_one_json_document() -> None:
    job_id = UUID(int=7)
    rows = [{"id": job_id, "lease": 2**62, "result": '{"a": "\\u0000ü\'"}', "delay_seconds": 0.5, "error": None}]

    (read,) = json.loads(rows_parameter(rows)["rows"])

    assert read == {**rows[0], "id": str(job_id)}


@pytest.mark.parametrize("value", [b"x", MOMENT, {1}])
def test_a_row_takes_plain_values_only(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        rows_parameter([{"id": value}])


@pytest.mark.parametrize(("dialect", "source"), [(POSTGRESQL, "json_to_recordset"), (SQLITE, "json_each")])
def test_a_set_of_any_size_is_one_parameter_so_that_the_statement_s_text_stays(dialect: str, source: str) -> None:
    rows = given(dialect, id=UUID, lease=int)
    query = select(jobs.c.id).where(jobs.c.id == rows.c.id, jobs.c.lease == rows.c.lease)

    assert source in _sql(query, dialect)
    assert query.compile(dialect=DIALECTS[dialect]).params.keys() >= {"rows"}
    assert "VALUES" not in _sql(query, dialect)


def test_rows_are_locked_where_there_are_several_writers() -> None:
    query = select(jobs.c.id)

    assert "FOR UPDATE SKIP LOCKED" in _sql(locked(query, POSTGRESQL), POSTGRESQL)
    assert "FOR UPDATE" not in _sql(locked(query, SQLITE), SQLITE)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_clock_is_the_database_s(dialect: str) -> None:
    clock = {POSTGRESQL: "statement_timestamp()", SQLITE: "jobmill_now()"}[dialect]

    assert clock in _sql(select(now()), dialect)
    assert clock in _sql(select(seconds_from_now(5)), dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_states_are_written_into_the_statement(dialect: str) -> None:
    one, two = _sql(in_state(State.DEAD), dialect), _sql(in_state(State.DEAD, State.QUEUED), dialect)

    assert one == "jobs.state = 'dead'"
    assert two == "jobs.state IN ('dead', 'queued')"
