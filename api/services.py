"""What the API needs of the rest of the process, made once and passed in."""

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType

from sqlalchemy.orm import Session

from api.backlog import Backlog
from api.coalescer import Coalescer
from api.key_ring import KeyRing
from api.last_uses import LastUses
from api.limiter import Blocked, Limiter, LocalLimiter, Shared
from api.pace import Pace
from api.patience import ONE_TRY, PATIENCE
from api.watcher import Watcher
from jobs import api_keys, issuers, rates, submit, tokens
from jobs.rates import Policies, RouteClass
from jobs.registry import Registry
from jobs.submit import Recorded, Refused
from jobs.tokens import Trust
from models import identity
from models.database import Database
from models.doorbell import Doorbell
from models.errors import Trouble, Unavailable
from models.identity import ApiKey
from models.job import NewJob
from setting_forms import DEFAULT_RATE_LIMITS
from settings import Settings


@dataclass
class Services:
    """The API's collaborators. `version` is the release that `Jobmill-Version` names.

    `last_checks` is what was last found out about the dependencies, and when by `time.monotonic`; `asked` are the
    questions put to them, one to each at a time. `blocked` are pairs of an address and a key id,
    whose secret is not tried from there. `openapi` is the document once somebody has asked for it.
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
    blocked: dict[tuple[str, str], Blocked] = field(default_factory=dict)
    places: threading.Semaphore = field(init=False)
    watcher: Watcher = field(init=False)
    _pepper: bytes | None = None

    def __post_init__(self) -> None:
        """Make what follows from the rest."""
        self.places = threading.BoundedSemaphore(self.settings.api_threads)
        self.watcher = Watcher(self.database, self.settings.api_waiting)

    @cached_property
    def last_uses(self) -> LastUses:
        """What there is to write about the keys' use."""
        return LastUses(self.database)

    @cached_property
    def key_ring(self) -> KeyRing:
        """The keys of our own tokens."""
        return KeyRing(self.database, self.pepper)

    @cached_property
    def trusted(self) -> Mapping[str, Trust]:
        """The issuers whose tokens are believed."""
        ours = self.settings.issuer
        outside = {one.issuer: issuers.trust(one) for one in self.settings.jwt_issuers}
        # Ours last: no outside issuer may pass for us.
        return outside | {ours: Trust(ours, ours, (tokens.OUR_ALGORITHM,), (tokens.OUR_TYPE,), self.key_ring.find)}

    @cached_property
    def backlog(self) -> Backlog:
        """How far queues are behind."""
        return Backlog()

    @cached_property
    def pace(self) -> Pace:
        """How long jobs take."""
        return Pace(self.database)

    @cached_property
    def policies(self) -> Policies:
        """The rate limits of whoever has none of his own."""
        told = dict(one.split("=") for one in self.settings.rate_limits)
        return {one: rates.parse(told.get(one, DEFAULT_RATE_LIMITS[one])) for one in RouteClass}

    @cached_property
    def limiter(self) -> Limiter:
        """What counts the requests of those whom we know."""
        return Limiter(self._shared_limiter, LocalLimiter())

    @cached_property
    def strangers(self) -> Limiter:
        """What counts those of all others: in a memory of its own, where they push out nobody but each other."""
        return Limiter(self._shared_limiter, LocalLimiter())

    @cached_property
    def _shared_limiter(self) -> Shared | None:
        if self.settings.redis_url is None:
            return None
        from api.shared_redis import RedisLimiter

        return RedisLimiter(self.settings.redis_url.get_secret_value(), self.settings.queue_prefix)

    def find_key(self, key_id: str) -> ApiKey | None:
        """The usable API key of that id. Raises Unavailable."""
        return self.database.patiently(partial(self.key_lookups, key_id), PATIENCE)

    @cached_property
    def key_lookups(self) -> Coalescer[str, ApiKey | None]:
        """Looks up the keys of one moment; each once."""

        def ask(key_ids: Sequence[str]) -> list[ApiKey | None]:
            found = self.database.read(lambda session: identity.find_keys(session, key_ids), ONE_TRY)
            return [found.get(key_id) for key_id in key_ids]

        return Coalescer(ask, self.settings.api_threads)

    def record_job(self, new: NewJob) -> Recorded | Refused:
        """Record a prepared job; it is committed before this returns. Raises Unavailable and Unstorable.

        One with a unique key goes alone: a handler may have recorded another in a long transaction of its own, and for
        its end no other client should have to wait.
        """
        ask = self.submissions.alone if new.unique_key is not None else self.submissions
        return self.database.patiently(partial(ask, new), PATIENCE)

    @cached_property
    def submissions(self) -> Coalescer[NewJob, Recorded | Refused]:
        """Records the jobs of one moment; each once."""

        def ask(new: Sequence[NewJob]) -> list[Recorded | Refused]:
            if len(new) > 1:
                try:
                    return self.database.run_together(lambda session: submit.record_all(session, new), ONE_TRY)
                except Unavailable as error:
                    # That way has one connection, and may have to open it just now: those of the other may be open.
                    if error.trouble is not Trouble.CONNECTION:
                        raise
            return self.database.run_single(lambda session: submit.record_all(session, new), ONE_TRY)

        return Coalescer(ask, self.settings.api_threads)

    def known_pepper(self) -> bytes:
        """What `pepper` gives, without a session once it is known."""
        return self._pepper or self.database.read(self.pepper, PATIENCE)

    def pepper(self, session: Session) -> bytes:
        """What API keys are hashed with and cursors signed; read once."""
        if self._pepper is None:
            self._pepper = api_keys.pepper(session, self.settings)
        return self._pepper
