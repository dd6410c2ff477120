"""A client's steady load: submissions over HTTP at a given rate, each under an idempotency key, sent again with the
same key for as long as that can help. What was answered with 202 is recorded, and must not be lost.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.acceptance.installation import Installation

Json = dict[str, Any]
Answer = tuple[int, Json]
"""A job's, whether it was sent alone or with others: the status, and the job or what was wrong."""

NO_ANSWER = 0
PASSING = {NO_ANSWER, 429, 503}
IN_USE = "idempotency-key-in-use"
PATIENCE_SECONDS = 100.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5


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

    `turned_away` counts the answers that had it sent again, by their status; NO_ANSWER stands for none.
    """
    (job,) = submit_all_patiently(installation, [{"type": job_type, "args": args, **more}], patience, turned_away)
    return job


def submit_all_patiently(
    installation: Installation,
    bodies: Sequence[Json],
    patience: float = PATIENCE_SECONDS,
    turned_away: Counter[int] | None = None,
) -> list[Json]:
    """The same for the jobs of one request, a batch if there are several; those that were not accepted are sent again.

    Each job that is sent again counts as turned away.
    """
    asked = {f"load-{secrets.token_hex(12)}": body for body in bodies}
    installation.asked.update(asked)
    send = _sent if len(asked) == 1 else _sent_together
    jobs: dict[str, Json] = {}
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        left = {key: body for key, body in asked.items() if key not in jobs}
        said = send(installation, left)
        jobs |= {key: told for key, (status, told) in said.items() if status == httpx2.codes.ACCEPTED}
        installation.accepted += [jobs[key] for key in left if key in jobs]
        if len(jobs) == len(asked):
            return [jobs[key] for key in asked]
        open_answers = [said.get(key, (NO_ANSWER, {})) for key in left if key not in jobs]
        refused = [answer for answer in open_answers if not _passes(*answer)]
        if refused or time.monotonic() > deadline:
            raise AssertionError(f"not accepted: {(refused or open_answers)[0]}")
        if turned_away is not None:
            turned_away.update(status for status, _ in open_answers)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _sent(installation: Installation, asked: dict[str, Json]) -> dict[str, Answer]:
    ((key, body),) = asked.items()
    try:
        answer = installation.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    except httpx2.TransportError:
        return {}
    return {key: _read(answer)}


def _sent_together(installation: Installation, asked: dict[str, Json]) -> dict[str, Answer]:
    jobs = [body | {"idempotency_key": key} for key, body in asked.items()]
    try:
        answer = installation.client.post("/v1/jobs/batch", json={"jobs": jobs})
    except httpx2.TransportError:
        return {}
    status, said = _read(answer)
    if status != httpx2.codes.ACCEPTED:
        return dict.fromkeys(asked, (status, said))
    each = [(one["status"], one.get("job") or one["problem"]) for one in said["data"]]
    return dict(zip(asked, each, strict=True))


def _read(answer: httpx2.Response) -> Answer:
    if answer.status_code == httpx2.codes.ACCEPTED:
        return answer.status_code, answer.json()
    return answer.status_code, {"text": answer.text}  # a server that is ending may answer anything


def _passes(status: int, said: Json) -> bool:
    return status in PASSING or (status == httpx2.codes.CONFLICT and IN_USE in str(said))


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
    `job_type` and `args` may be functions of the job's number, as what `more` members a job has is. `sizes` are how
    many jobs a request has, in turn.
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
        sizes: Sequence[int] = (1,),
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
        self._sizes = cycle(sizes)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._taken = 0  # numbers of jobs that threads have taken; those wait for their moment, or for the end
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
        while (numbers := self._next()) and not self._over.wait(self._until(numbers[-1])):
            began = time.monotonic()
            with self._lock:
                self.submitted += len(numbers)
            try:
                bodies = [{"type": self._type(n), "args": self._args(n), **self._more(n)} for n in numbers]
                jobs = submit_all_patiently(self._installation, bodies, turned_away=self.turned_away)
            except BaseException as error:  # noqa: BLE001 - told when the block ends
                self.refused.append(error)
            else:
                self.accepted += jobs
                after = time.monotonic() - began
                self.answered += [Answered(job["id"], began, after) for job in jobs]

    def _next(self) -> Sequence[int]:
        """The numbers of the next request's jobs, each counted once; none at the end."""
        with self._lock:
            if self._over.is_set():
                return ()
            first, size = self._taken, next(self._sizes)
            self._taken = first + size if self._most is None else min(first + size, self._most)
            return range(first, self._taken)

    def _until(self, number: int) -> float:
        return max(0.0, self._began + number / self._rate - time.monotonic())
