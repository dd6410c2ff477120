"""What checks find, and how a list of them is made: all at once, each for itself, within one deadline."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from cli import failures
from cli.database import connect
from models.database import Database
from settings import Settings


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will not for ever, or not as well as it could."""
    WRONG = "wrong"
    """Something does not work, or was not there to be looked at."""


@dataclass(frozen=True)
class Finding:
    """One line: what was found, and unless it is well what to do."""

    level: Level
    message: str


@dataclass(frozen=True)
class Thresholds:
    """From where on something is worth a word."""

    dead_letters: int
    dead_days: float
    waiting_seconds: float


class Patient:
    """The installation that is looked at: its settings, and its database, opened when it is asked for."""

    def __init__(self, settings: Settings, thresholds: Thresholds, connections: int) -> None:
        self.settings = settings
        self.thresholds = thresholds
        self._connections = connections
        self._opening = threading.Lock()
        self._database: Database | None = None

    @property
    def database(self) -> Database:
        """The way to the database, the same for all. Raises SchemaMismatch when there is no file."""
        with self._opening:
            self._database = self._database or connect(self.settings, self._connections)
            return self._database


Check = Callable[[Patient], Iterable[Finding]]


def fine(message: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, message)


def warning(message: str) -> Finding:
    """All is well as yet."""
    return Finding(Level.WARNING, message)


def wrong(message: str) -> Finding:
    """Something has to be done."""
    return Finding(Level.WRONG, message)


def examine(
    checks: Mapping[str, Check], patient: Patient, deadline_seconds: float
) -> Iterator[tuple[str, list[Finding]]]:
    """Make the checks; one that fails, or does not end in time, is a finding, and no other hears of it."""
    ends_at = time.monotonic() + deadline_seconds
    asked = {name: _ask(name, check, patient) for name, check in checks.items()}
    for name, answer in asked.items():
        yield name, _found(answer, ends_at - time.monotonic(), deadline_seconds)


def _ask(name: str, check: Check, patient: Patient) -> "Future[list[Finding]]":
    """Check on a thread of its own, which nobody waits for that has no answer in time."""
    answer: Future[list[Finding]] = Future()

    def find_out() -> None:
        try:
            answer.set_result(list(check(patient)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what was found
            answer.set_exception(error)

    threading.Thread(target=find_out, name=f"check-{name}", daemon=True).start()
    return answer


def _found(answer: "Future[list[Finding]]", seconds: float, deadline_seconds: float) -> list[Finding]:
    try:
        return answer.result(max(0.0, seconds))
    except TimeoutError:
        if not answer.done():
            return [wrong(f"gave no answer within {deadline_seconds:g} s.")]
        return [wrong("could not be made: TimeoutError.")]
    except Exception as error:  # noqa: BLE001 - the same
        return [wrong(f"could not be made: {reason(error)}")]


def reason(error: BaseException) -> str:
    """An error in words that hold no secret: those we know say what to do, of others only the kind is told."""
    if known := failures.told(error):
        return known.message
    said = error.strerror if isinstance(error, OSError) else None
    return f"{said or type(error).__name__}."
