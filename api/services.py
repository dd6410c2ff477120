"""What the API needs of the rest of the process, made once and passed in."""

import math
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType

from sqlalchemy.orm import Session

from api.watcher import Watcher
from jobs import api_keys
from jobs.registry import Registry
from models.database import Database
from models.doorbell import Doorbell
from settings import Settings


@dataclass
class Services:
    """The API's collaborators. `version` is the release that `Jobmill-Version` names.

    `last_checks` is what was last found out about the dependencies, and when by `time.monotonic`; `asked` are the
    questions put to them, one to each at a time. `openapi` is the document once somebody has asked for it.
    `places` are those for requests at work, which are fewer than the threads: most of these are for clients that wait.
    """

    settings: Settings
    database: Database
    registry: Registry
    doorbell: Doorbell
    version: str
    last_checks: tuple[float, Mapping[str, str]] = (-math.inf, MappingProxyType({}))
    checking: threading.Lock = field(default_factory=threading.Lock)
    asked: "dict[str, Future[Mapping[str, str]]]" = field(default_factory=dict)
    openapi: bytes | None = None
    places: threading.Semaphore = field(init=False)
    watcher: Watcher = field(init=False)
    _pepper: bytes | None = None

    def __post_init__(self) -> None:
        """Make what follows from the rest."""
        self.places = threading.BoundedSemaphore(self.settings.api_threads)
        self.watcher = Watcher(self.database, self.settings.api_waiting)

    def pepper(self, session: Session) -> bytes:
        """What API keys are hashed with and cursors signed; read once."""
        if self._pepper is None:
            self._pepper = api_keys.pepper(session, self.settings)
        return self._pepper
