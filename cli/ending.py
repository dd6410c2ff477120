"""Waiting for a job on behalf of a command, and ending as the job ended."""

from cli import job_view, output
from cli.failures import Refused
from cli.progress import progress
from cli.waiting import wait
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection
from models.states import State


def wait_and_end(server: Connection, job_id: str, seconds: float, *, as_json: bool) -> None:
    """Wait, show the job, and raise Refused unless it succeeded."""
    with progress() as report:
        answer = wait(server, job_id, seconds, report)
    show(answer, as_json=as_json)
    job = answer.document
    if job.get("state") != State.SUCCEEDED:
        why = job_view.error(job.get("error"))
        raise Refused(": ".join(filter(None, [f"The job is {job.get('state')}", why])))


def show(answer: Answer, *, as_json: bool) -> None:
    """Print a job."""
    if as_json:
        output.document(answer.body)
    else:
        output.details(job_view.details(answer.document))
