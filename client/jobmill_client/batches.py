"""Handing in a batch: in one request, and in parts again if its answer is too large to be read at once."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from jobmill_client.connection import Connection
from jobmill_client.errors import AnswerTooLarge
from jobmill_client.submissions import MOST_BATCH_BYTES, Submission, batch_member

BATCH_SECONDS = 45.0
"""A batch may take so much longer than another call."""


def hand_in_all(connection: Connection, submissions: Sequence[Submission], *, atomic: bool) -> list[Mapping[str, Any]]:
    """What became of each job, in their order. At most as many jobs as the API takes at once, and one at least.

    Jobs of an earlier time come with their results, which may be a gigabyte. Once a batch is accepted its jobs are
    recorded under their keys, with `atomic` all of them: each half of it is then answered with the same jobs.
    """
    path = "/v1/jobs/batch?atomic=true" if atomic else "/v1/jobs/batch"
    document = {"jobs": [batch_member(submission) for submission in submissions]}
    try:
        answer = connection.post(path, document, repeatable=True, most_bytes=MOST_BATCH_BYTES, held=BATCH_SECONDS)
    except AnswerTooLarge as error:
        if error.status != HTTPStatus.ACCEPTED or len(submissions) == 1:
            raise
        middle = len(submissions) // 2
        halves = submissions[:middle], submissions[middle:]
        return [told for half in halves for told in hand_in_all(connection, half, atomic=False)]
    return list(answer.document["data"])
