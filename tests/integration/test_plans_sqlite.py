"""On SQLite no question reads the whole table of jobs, and none costs more for more finished jobs."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import lists, queue_figures
from models.database import Database, connect_sqlite
from models.job import jobs
from tests.questions import QUESTIONS, Crowd, add_finished, add_live, crowd_of, statements

FEW, MANY = 2_000, 20_000
# A search in a B-tree is one step of SQLite's machine, however deep; a page of jobs is some 700 to 5,000, the
# whole table of the larger crowd 60,000.
GROWTH = 6_000


@dataclass(frozen=True)
class Crowded:
    """A database full of jobs."""

    database: Database
    crowd: Crowd


@pytest.fixture(autouse=True)
def look_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a page look at fewer jobs than the smaller crowd has, so that a page that looks at all is told from it."""
    monkeypatch.setattr(lists, "LOOKED_AT", 100)
    monkeypatch.setattr(queue_figures, "MOST_LOOKED_AT", 100)


@pytest.fixture(scope="module")
def crowded(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Crowded]]:
    directory = tmp_path_factory.mktemp("crowded")
    few = Path(shutil.copy(sqlite_template, directory / "few.db"))
    _fill(few, 0, FEW)
    many = Path(shutil.copy(few, directory / "many.db"))
    _fill(many, FEW, MANY)
    opened = {FEW: _open(few), MANY: _open(many)}
    yield opened
    for crowd in opened.values():
        crowd.database.close()


def _fill(path: Path, first: int, last: int) -> None:
    database = connect_sqlite(path, pool_size=1)
    with database.transaction() as session:
        add_finished(session, last - first, first)
        if first == 0:
            add_live(session)
    database.close()


def _open(path: Path) -> Crowded:
    database = connect_sqlite(path, pool_size=1)
    with database.reading() as session:
        return Crowded(database, crowd_of(session))


def _steps(question: str, crowded: Crowded) -> int:
    """How many steps SQLite's machine takes to answer; nothing is kept."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with Session(crowded.database.engine) as session:
        driver = _driver(session)
        driver.set_progress_handler(step, 1)
        QUESTIONS[question](session, crowded.crowd)
        driver.set_progress_handler(None, 0)
    return steps


def _plans(question: str, crowded: Crowded) -> list[str]:
    with Session(crowded.database.engine) as session:
        with statements(session) as asked:
            QUESTIONS[question](session, crowded.crowd)
        driver = _driver(session)
        return [
            row[3]
            for statement, parameters in asked
            for row in driver.execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()
        ]


def _driver(session: Session) -> Any:
    return session.connection().connection.driver_connection


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_uses_an_index(crowded: dict[int, Crowded], question: str) -> None:
    plan = _plans(question, crowded[MANY])

    whole = [line for line in plan if line.startswith("SCAN") and "jobs" in line and "INDEX" not in line]
    assert not whole, plan


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_takes_as_many_steps_however_many_jobs_are_finished(
    crowded: dict[int, Crowded], question: str
) -> None:
    few, many = (_steps(question, crowded[size]) for size in (FEW, MANY))

    assert many <= few + GROWTH, _plans(question, crowded[MANY])


def test_a_scan_of_the_whole_table_is_seen_and_grows(
    crowded: dict[int, Crowded], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = select(func.count()).select_from(jobs).where(jobs.c.request_id == "x")
    monkeypatch.setitem(QUESTIONS, "count", lambda session, crowd: session.execute(count))

    assert any(line.startswith("SCAN jobs") for line in _plans("count", crowded[MANY]))
    assert _steps("count", crowded[MANY]) > _steps("count", crowded[FEW]) + GROWTH
