"""One database a module and dialect, for tests whose every write is rolled back."""

import shutil
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from models.database import Database, connect_postgresql, connect_sqlite
from models.dialect import POSTGRESQL, SQLITE


@pytest.fixture(scope="module")
def shared_postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue("postgresql_server")
    name = server.create(request.getfixturevalue("postgresql_template"))
    database = connect_postgresql(server.url_of(name), "jobmill-tests", pool_size=2)
    yield database
    database.close()
    server.drop(name)


@pytest.fixture(scope="module")
def shared_sqlite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("shared") / "jobmill.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    database = connect_sqlite(path, pool_size=2)
    yield database
    database.close()


@pytest.fixture(params=[POSTGRESQL, SQLITE])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A transaction on an empty database of each dialect, rolled back when the test is over."""
    shared: Database = request.getfixturevalue(f"shared_{request.param}")
    with Session(shared.engine, expire_on_commit=False) as open_session:
        yield open_session
