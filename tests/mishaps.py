"""Databases that misbehave as networks do, for tests of what is done about it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy.orm import Session

from models.database import Database
from models.errors import Unavailable


class LosesAnswers(Database):
    """Commits, and then says that the database was away: the next `times` times that something is written."""

    def __init__(self, database: Database) -> None:
        self.__dict__.update(vars(database))
        self.times = 0

    def _once(self, opened: Callable[[], AbstractContextManager[Session]], step: Callable[[Session], Any]) -> Any:
        answer = super()._once(opened, step)
        if self.times and getattr(opened, "__name__", "") != "reading":
            self.times -= 1
            raise Unavailable("the answer to COMMIT was lost")
        return answer
