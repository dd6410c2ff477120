"""The client: a server's jobs as Python objects."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from uuid import UUID

import httpx2
from pydantic import BaseModel

from jobmill_client.acting import cancel, delete_once, run_now
from jobmill_client.answers import Answer
from jobmill_client.batches import hand_in_all
from jobmill_client.connection import Connection, Patience
from jobmill_client.credentials import opened_by
from jobmill_client.dead_letters import DeadFilters, DeadGroup, DeadLetter, WholeDeadLetter, told
from jobmill_client.documents import WAIT_SECONDS, Event, Explanation, Job, JobType, Worker
from jobmill_client.errors import api_error
from jobmill_client.paths import id_in_path, name_in_path
from jobmill_client.queues import Limits, Queue
from jobmill_client.redrives import Redrive, RedriveOptions, RedrivePreview
from jobmill_client.submissions import (
    MOST_JOBS,
    BatchItem,
    Options,
    Submission,
    portions,
)
from jobmill_client.undeliverable import Undeliverable, WholeUndeliverable
from jobmill_client.waiting import watch
from jobmill_client.webhook_deliveries import WebhookDeliveries
from jobmill_client.webhook_endpoints import WebhookEndpoints

Args = Mapping[str, Any] | BaseModel


class Filters(TypedDict, total=False):
    """Which jobs to list: `state` and `type` may be several, `tags` holds one pair."""

    state: str | Sequence[str]
    type: str | Sequence[str]
    queue: str
    unique_key: str
    tags: Mapping[str, str]


class Client:
    """A server's jobs. Threads may share one; close it when done, or use it in a `with`.

    Opened by an API `key`, or by a `token` as of an identity provider, or by `client_id` and `client_secret`, the two
    parts of a key, which then never travels with a request: short-lived tokens do, renewed before they expire.
    `webhook_endpoints` and `webhook_deliveries` hold what is done with webhooks.
    """

    def __init__(  # noqa: PLR0913 - all but the first are for choice, and named
        self,
        url: str,
        key: str | None = None,
        *,
        token: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        timeout: float = 15.0,
        retries: int = 4,
        retry_seconds: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        A try may take `timeout` seconds. A call is repeated `retries` times at most, and no try starts later than
        `retry_seconds` after the first. Raises ValueError if the url, or what opens it, cannot be right.
        """
        auth = opened_by(url, key, token, client_id, client_secret, timeout)
        patience = Patience(retries, retry_seconds)
        self.connection = Connection(url, auth, timeout=timeout, patience=patience, transport=transport)
        self.webhook_endpoints = WebhookEndpoints(self.connection)
        self.webhook_deliveries = WebhookDeliveries(self.connection)

    def __repr__(self) -> str:
        return f"Client({self.connection.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> Self:
        """A copy of a job shares its client."""
        del memo
        return self

    def close(self) -> None:
        """Close the connections of the pool."""
        self.connection.close()

    # Handing in.

    def submit(self, job_type: str, args: Args | None = None, **options: Unpack[Options]) -> Job:
        """Hand in a job. It is committed when this returns; a call that fails can be repeated with the error's key.

        Raises ApiError, ConnectionFailed.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return self.hand_in(Submission.model_validate({"type": job_type, "args": args or {}, **given}))

    def hand_in(self, submission: Submission) -> Job:
        """Hand in a job that was put together before. The same one again gives the same job."""
        answer = self.connection.post("/v1/jobs", submission.document(), idempotency_key=submission.idempotency_key)
        return self._job(answer)

    def batch(self, jobs: Iterable[Submission | Mapping[str, Any]], *, atomic: bool = False) -> list[BatchItem]:
        """Hand in many jobs, and tell of each what became of it, in their order.

        Any number: 1,000 (or 16 MiB) travel in one request. If a later request fails, those before are recorded: give
        Submissions rather than dicts to be able to repeat the call, which then makes no job twice. With `atomic` all
        are recorded or none, by a Conflict whose `document["refused"]` tells why; ValueError for more than 1,000.
        """
        submissions = [job if isinstance(job, Submission) else Submission.model_validate(job) for job in jobs]
        if atomic and len(submissions) > MOST_JOBS:
            raise ValueError(f"{len(submissions)} jobs cannot be recorded all or none; {MOST_JOBS} can.")
        if atomic:
            return self._batch(submissions, atomic=True) if submissions else []
        return [item for portion in portions(submissions) for item in self._batch(portion, atomic=False)]

    # Reading and following.

    def job(self, job_id: str | UUID) -> Job:
        """A job as it is now. Raises NotFound."""
        return self._job(self.connection.get(f"/v1/jobs/{id_in_path(job_id)}"))

    def jobs(self, *, page_size: int = 100, **filters: Unpack[Filters]) -> Iterator[Job]:
        """Jobs, newest first; each page of `page_size` is read when it is needed."""
        tags = {f"tag.{name}": value for name, value in filters.pop("tags", {}).items()}
        for item in self.connection.items("/v1/jobs", {**filters, **tags, "limit": page_size}):
            yield Job.told(item, self)

    def wait(self, job_id: str | UUID, timeout: float = WAIT_SECONDS) -> Job:
        """The job once it has ended, in whatever way. Raises WaitTimedOut after so many seconds."""
        return self._job(deque(watch(self.connection, id_in_path(job_id), timeout), maxlen=1).pop())

    def result(self, job_id: str | UUID, timeout: float = WAIT_SECONDS) -> Any:
        """What the job's handler returned, once it has ended. Raises JobFailed, or WaitTimedOut."""
        return self.wait(job_id, timeout).result()

    def watch(self, job_id: str | UUID, timeout: float = WAIT_SECONDS, every: float = 1.0) -> Iterator[Job]:
        """The job now, and whenever it has changed, at most each `every` seconds, to its end. Raises WaitTimedOut."""
        return map(self._job, watch(self.connection, id_in_path(job_id), timeout, every))

    def events(self, job_id: str | UUID) -> Iterator[Event]:
        """What happened to a job besides the straight way, newest first."""
        return map(Event.model_validate, self.connection.items(f"/v1/jobs/{id_in_path(job_id)}/events"))

    def explain(self, job_id: str | UUID) -> Explanation:
        """Why a job is where it is: what keeps it from running, who runs it, or how it ended. Raises NotFound."""
        return Explanation.model_validate(self.connection.get(f"/v1/jobs/{id_in_path(job_id)}/explain").document)

    # Acting on one.

    def cancel(self, job_id: str | UUID) -> Job:
        """Cancel a job: at once if it waits, else as soon as its handler lets go. Raises Conflict if it has ended."""
        return self._job(cancel(self.connection, id_in_path(job_id)))

    def run_now(self, job_id: str | UUID) -> Job:
        """Have a job run now that waits for its time or its next attempt. Raises Conflict if it does not wait."""
        return self._job(run_now(self.connection, id_in_path(job_id)))

    # What failed for good.

    def dead_letters(self, *, page_size: int = 100, **filters: Unpack[DeadFilters]) -> Iterator[DeadLetter]:
        """Jobs that failed for good, those that died last first; each page of `page_size` is read when needed."""
        for item in self.connection.items("/v1/dead-letters", {**told(filters), "limit": page_size}):
            yield DeadLetter.told(item, self)

    def dead_letter_groups(self) -> Iterator[DeadGroup]:
        """What they died of: a group for each type, class of error, place in your code and wording of the message."""
        return map(DeadGroup.model_validate, self.connection.items("/v1/dead-letters/groups"))

    def dead_letter(self, job_id: str | UUID) -> WholeDeadLetter:
        """One of them with the error and the trace of each attempt. Raises NotFound if the job is not dead."""
        return WholeDeadLetter.told(self.connection.get(f"/v1/dead-letters/{id_in_path(job_id)}").document, self)

    def edit_dead_letter(self, job_id: str | UUID, args: Args) -> WholeDeadLetter:
        """Give it other arguments, all of them. Raises InvalidRequest, Conflict if it is dead no more or changed."""
        document = {"args": args.model_dump(mode="json") if isinstance(args, BaseModel) else dict(args)}
        return WholeDeadLetter.told(
            self.connection.patch(f"/v1/dead-letters/{id_in_path(job_id)}", document).document, self
        )

    def replay(self, job_id: str | UUID) -> Job:
        """Queue it again, with fresh attempts. Raises Conflict if it is dead no more, or its unique key is held.

        Asked once: after a ConnectionFailed look at the job.
        """
        return self._job(self.connection.post(f"/v1/dead-letters/{id_in_path(job_id)}/replay", repeatable=False))

    def discard(self, job_id: str | UUID) -> Job:
        """Give it up for good. Raises Conflict if it is dead no more; asked once, as `replay`."""
        return self._job(self.connection.post(f"/v1/dead-letters/{id_in_path(job_id)}/discard", repeatable=False))

    # Dead letters by the thousand.

    def preview_redrive(self, **filters: Unpack[DeadFilters]) -> RedrivePreview:
        """What a redrive of those dead letters would do; changes nothing. `order` means nothing here."""
        body = {"filter": told(filters), "dry_run": True}
        return RedrivePreview.model_validate(self.connection.post("/v1/redrives", body, repeatable=True).document)

    def start_redrive(self, filters: DeadFilters, **options: Unpack[RedriveOptions]) -> Redrive:
        """Replay or discard the dead letters that match now; no filters mean all of them.

        Asked once: after a ConnectionFailed look at `redrives`. A second one would harm nobody, since no letter is
        replayed twice.
        """
        body = {"filter": told(filters), **options}
        return Redrive.model_validate(self.connection.post("/v1/redrives", body, repeatable=False).document)

    def redrives(self) -> Iterator[Redrive]:
        """The tenant's redrives, newest first."""
        return map(Redrive.model_validate, self.connection.items("/v1/redrives"))

    def redrive(self, redrive_id: str | UUID) -> Redrive:
        """One of them, and how far it is. Raises NotFound."""
        return Redrive.model_validate(self.connection.get(f"/v1/redrives/{id_in_path(redrive_id)}").document)

    def pause_redrive(self, redrive_id: str | UUID) -> Redrive:
        """Have it handle no further letter until it is resumed. Raises Conflict if it has ended."""
        return self._steered(redrive_id, "pause")

    def resume_redrive(self, redrive_id: str | UUID) -> Redrive:
        """Have it go on. Raises Conflict if it has ended."""
        return self._steered(redrive_id, "resume")

    def cancel_redrive(self, redrive_id: str | UUID) -> Redrive:
        """End it; letters that it replayed stay replayed. Raises Conflict if it has ended otherwise."""
        return self._steered(redrive_id, "cancel")

    def _steered(self, redrive_id: str | UUID, how: str) -> Redrive:
        answer = self.connection.post(f"/v1/redrives/{id_in_path(redrive_id)}/{how}", repeatable=True)
        return Redrive.model_validate(answer.document)

    # Queues.

    def queues(self) -> Iterator[Queue]:
        """The queues by name: what is in each, what comes and goes, limits, live workers."""
        return map(Queue.model_validate, self.connection.items("/v1/queues"))

    def queue(self, name: str) -> Queue:
        """One queue. Raises NotFound."""
        return Queue.model_validate(self.connection.get(_queue(name)).document)

    def pause_queue(self, name: str) -> Queue:
        """Let none of its jobs begin; those that run go on. Raises NotFound, and Forbidden without a platform key."""
        return Queue.model_validate(self.connection.post(f"{_queue(name)}/pause", repeatable=True).document)

    def resume_queue(self, name: str) -> Queue:
        """Let its jobs begin again. Raises as `pause_queue`."""
        return Queue.model_validate(self.connection.post(f"{_queue(name)}/resume", repeatable=True).document)

    def limit_queue(self, name: str, **limits: Unpack[Limits]) -> Queue:
        """Set one limit or both; None takes it away. Raises InvalidRequest, and as `pause_queue`."""
        return Queue.model_validate(self.connection.patch(_queue(name), limits).document)

    # What RabbitMQ could not deliver.

    def undeliverable(
        self, *, queue: str | None = None, reason: str | None = None, page_size: int = 100
    ) -> Iterator[Undeliverable]:
        """Messages that start no job, newest first; for a platform key only, to a tenant's there are none."""
        params = {"queue": queue, "reason": reason, "limit": page_size}
        return map(Undeliverable.model_validate, self.connection.items("/v1/undeliverable", params))

    def undeliverable_message(self, message_id: str | UUID) -> WholeUndeliverable:
        """One of them, with its body. Raises NotFound."""
        return WholeUndeliverable.model_validate(
            self.connection.get(f"/v1/undeliverable/{id_in_path(message_id)}").document
        )

    def discard_undeliverable(self, message_id: str | UUID) -> None:
        """Delete one of them for good. Raises NotFound."""
        delete_once(self.connection, f"/v1/undeliverable/{id_in_path(message_id)}")

    # What there is.

    def job_types(self) -> Iterator[JobType]:
        """The types of job that the server takes, by name."""
        return map(JobType.model_validate, self.connection.items("/v1/job-types"))

    def job_type(self, name: str) -> JobType:
        """One type of job. Raises NotFound."""
        return JobType.model_validate(self.connection.get(f"/v1/job-types/{name_in_path(name)}").document)

    def workers(self) -> Iterator[Worker]:
        """The workers that live, or lived within the last hour."""
        return map(Worker.model_validate, self.connection.items("/v1/workers"))

    def _job(self, answer: Answer) -> Job:
        return Job.told(answer.document, self)

    def _batch(self, submissions: Sequence[Submission], *, atomic: bool) -> list[BatchItem]:
        all_told = hand_in_all(self.connection, submissions, atomic=atomic)
        return [self._item(submission, told) for submission, told in zip(submissions, all_told, strict=True)]

    def _item(self, submission: Submission, told: Mapping[str, Any]) -> BatchItem:
        if "job" in told:
            return BatchItem(submission, job=Job.told(told["job"], self), replayed=told.get("replayed", False))
        return BatchItem(submission, error=api_error(told["status"], told["problem"]))


def _queue(name: str) -> str:
    return f"/v1/queues/{name_in_path(name)}"
