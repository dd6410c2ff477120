"""A client's steady load: submissions over HTTP at a given rate, each under an idempotency key, sent again with the
same key for as long as that can help. What was answered with 202 is recorded, and must not be lost.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.acceptance.installation import Installation

PASSING = {429, 503}
IN_USE = "idempotency-key-in-use"
PATIENCE_SECONDS = 100.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5

Json = dict[str, Any]


def submit_patiently(
    installation: Installation,
    job_type: str,
    args: Json,
    *,
    patience: float = PATIENCE_SECONDS,
    turned_away: Counter[int] | None = None,
    **more: Any,
) -> Json:
    """Submit as a client should: the same request under the same key, until it is accepted; gives the job.

    `turned_away` counts the answers that had it sent again, by their status; 0 stands for no answer.
    """
    key = f"load-{secrets.token_hex(12)}"
    installation.asked.add(key)
    body = {"type": job_type, "args": args, **more}
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        answer = _sent(installation, body, key)
        if answer is not None and answer.status_code == httpx2.codes.ACCEPTED:
            job: Json = answer.json()
            installation.accepted.append(job)
            return job
        refused = answer is not None and not _passes(answer)
        if refused or time.monotonic() > deadline:
            raise AssertionError(f"not accepted: {answer.text if answer is not None else 'no answer'}")
        if turned_away is not None:
            turned_away[answer.status_code if answer is not None else 0] += 1
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _sent(installation: Installation, body: Json, key: str) -> httpx2.Response | None:
    try:
        return installation.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    except httpx2.TransportError:
        return None


def _passes(answer: httpx2.Response) -> bool:
    return answer.status_code in PASSING or (answer.status_code == httpx2.codes.CONFLICT and IN_USE in answer.text)


@dataclass(frozen=True)
class Answered:
    """A submission that was accepted: when it was first sent, by `time.monotonic`, and how long the 202 took."""

    job_id: str
    sent_at: float
    after: float

    @property
    def at(self) -> float:
        return self.sent_at + self.after


class Load:
    """Submits while the block lasts: `rate` jobs a second, from `threads` threads, each waiting for its answers.

    When the answers take so long that the threads cannot keep the rate, the load falls behind rather than pile up.
    `job_type` and `args` may be functions of the submission's number, as what `more` members a submission has is.
    """

    def __init__(
        self,
        installation: Installation,
        job_type: str | Callable[[int], str],
        args: Json | Callable[[int], Json],
        *,
        rate: float,
        threads: int = 8,
        most: int | None = None,
        more: Callable[[int], Json] = lambda _number: {},
    ) -> None:
        self.accepted: list[Json] = []
        self.answered: list[Answered] = []
        self.refused: list[BaseException] = []
        self.turned_away: Counter[int] = Counter()
        self.submitted = 0
        self._installation, self._rate, self._most = installation, rate, most
        self._type = job_type if callable(job_type) else lambda _number: job_type
        self._args = args if callable(args) else lambda _number: args
        self._more = more
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._taken = 0  # numbers of submissions that threads have taken; those wait for their moment, or for the end
        self._began = 0.0
        self._threads = [threading.Thread(target=self._run, name=f"load-{n}", daemon=True) for n in range(threads)]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None and self.refused:
            raise self.refused[0]

    def stop(self) -> None:
        """Submit nothing more, and wait until what was begun is answered."""
        self._over.set()
        self.wait()

    def wait(self) -> None:
        """Wait until all threads are done: after stop(), or when `most` jobs were submitted."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS + 10)
            assert not thread.is_alive(), f"{thread.name} does not end"

    def report(self) -> Counter[str]:
        """How it went so far."""
        return Counter(submitted=self.submitted, accepted=len(self.accepted), refused=len(self.refused))

    def _run(self) -> None:
        while (number := self._next()) is not None and not self._over.wait(self._until(number)):
            began = time.monotonic()
            with self._lock:
                self.submitted += 1
            try:
                job_type, args, more = self._type(number), self._args(number), self._more(number)
                job = submit_patiently(self._installation, job_type, args, turned_away=self.turned_away, **more)
            except BaseException as error:  # noqa: BLE001 - told when the block ends
                self.refused.append(error)
            else:
                self.accepted.append(job)
                self.answered.append(Answered(job["id"], began, time.monotonic() - began))

    def _next(self) -> int | None:
        with self._lock:
            if self._over.is_set() or self._taken == self._most:
                return None
            self._taken += 1
            return self._taken - 1

    def _until(self, number: int) -> float:
        return max(0.0, self._began + number / self._rate - time.monotonic())
