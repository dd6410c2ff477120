"""Acting on something, where a lost answer makes a call be repeated that has done its work."""

from jobmill_client.answers import Answer
from jobmill_client.connection import Connection
from jobmill_client.errors import Conflict, NotFound


def cancel(connection: Connection, job_id: str) -> Answer:
    """The job, cancelled or asked to stop; one that is cancelled already is no error. Else Conflict if it has ended."""
    try:
        return connection.post(f"/v1/jobs/{job_id}/cancel", repeatable=True)
    except Conflict as refusal:
        if refusal.code != "job-is-final":
            raise
        # Perhaps by this very call, if the answer to a first try was lost.
        answer = connection.get(f"/v1/jobs/{job_id}")
        if answer.document.get("state") != "cancelled":
            raise
        return answer


def run_now(connection: Connection, job_id: str) -> Answer:
    """The job, due now. Conflict if it does not wait, unless the answer to an earlier try was lost: it then goes on."""
    try:
        return connection.post(f"/v1/jobs/{job_id}/run-now", repeatable=True)
    except Conflict as refusal:
        if refusal.code != "job-not-waiting" or not refusal.perhaps_done:
            raise
        return connection.get(f"/v1/jobs/{job_id}")


def delete_once(connection: Connection, path: str) -> None:
    """Delete something. NotFound if it is not there, unless the answer to an earlier try was lost."""
    try:
        connection.delete(path)
    except NotFound as refusal:
        if not refusal.perhaps_done:
            raise
