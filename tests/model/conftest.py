"""One database of each kind for all runs of the model, and how long they are."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PostgresqlServer
from tests.model.world import World, postgresql_world, sqlite_world


@pytest.fixture(scope="session")
def postgresql_model(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[World]:
    name = postgresql_server.create(postgresql_template)
    with postgresql_world(postgresql_server.url_of(name)) as world:
        yield world
    postgresql_server.drop(name)


@pytest.fixture(scope="session")
def sqlite_model(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = Path(shutil.copy(sqlite_template, tmp_path_factory.mktemp("model") / "jobmill.db"))
    with sqlite_world(path) as world:
        yield world
