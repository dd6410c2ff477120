"""`jobmill queues migrate`: queues in RabbitMQ with other arguments than this release needs are made anew."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from sqlalchemy.orm import Session

import settings
from cli import audited, compose, output
from cli.asking import ask, yes_option
from cli.database import open_database
from cli.failures import EXIT_CODES
from models import moves, queries
from models.database import Database
from models.job import Ref

if TYPE_CHECKING:
    from workers.mending import Drifted, Mended

COLUMNS = ("queue", "messages", "consumers", "differs")
MOST_RELEASED = 2000
"""As many as the dispatcher has on the broker; what is beyond is found by its *reconcile*."""


@click.command(epilog=EXIT_CODES)
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@yes_option
def migrate(names: tuple[str, ...], *, yes: bool) -> None:
    """Make queues anew in RabbitMQ that have other arguments than this release needs; no job is lost.

    Looks at those that are named, or else at those of JOBMILL_QUEUES and of live workers.
    """
    from workers import mending
    from workers.dispatcher import served_queues

    loaded = settings.load()
    urls = compose.brokers(loaded, "queues migrate")
    with open_database(loaded) as database:
        queues = names or served_queues(database, compose.served_queues(loaded))
        in_rabbitmq = dict(zip(compose.queue_names(loaded, queues), queues, strict=True))
        drifted = mending.plan(urls, list(in_rabbitmq))
        if drifted:
            _show(drifted)
            ask(_what(drifted), yes=yes)
        # Also if none is wrong: an earlier run may have ended with dead letters aside.
        mending.mend(
            urls,
            loaded.queue_prefix,
            list(in_rabbitmq),
            lambda refs: _are_there(database, refs),
            lambda name, one: _tell(database, in_rabbitmq[name], one),
        )
    if not drifted:
        output.note(f"Each queue is as this release needs it ({len(in_rabbitmq)} looked at).")


def _show(drifted: Sequence["Drifted"]) -> None:
    output.Table(*COLUMNS).show((one.name, one.messages, one.consumers, one.differs) for one in drifted)


def _what(drifted: Sequence["Drifted"]) -> str:
    one = len(drifted) == 1
    many = "this queue in RabbitMQ and makes it" if one else f"these {len(drifted)} queues in RabbitMQ and makes them"
    consumed = sum(found.consumers for found in drifted)
    in_hand = f" What {consumed} consumers have in hand and is not Jobmill's goes with it." if consumed else ""
    return (
        f"This deletes {many} anew. Jobs on the way are dispatched again; messages that are not Jobmill's, or of jobs "
        f"that are not there, are put aside with the dead letters.{in_hand}"
    )


def _are_there(database: Database, refs: Sequence[Ref]) -> bool:
    with database.reading() as session:
        return bool(queries.present(session, [ref.id for ref in refs]))


def _tell(database: Database, queue: str, mended: "Mended") -> None:
    released = database.run(lambda session: _record(session, queue, mended))
    output.note(
        f"{mended.name} is made anew: {mended.ours} messages dropped, {released} jobs to be dispatched again, "
        f"{mended.put_aside} strange messages put aside, {mended.carried} dead letters carried over."
    )


def _record(session: Session, queue: str, mended: "Mended") -> int:
    """Have the jobs whose messages went dispatched again, and say so in the audit log; gives how many."""
    claims = queries.settled_claims(session, queue, timedelta(0), MOST_RELEASED)
    released = len(moves.release(session, claims)) if mended.is_of_jobs else 0
    detail = {
        "before": mended.differed,
        "after": "as this release needs it",
        "dropped": mended.ours,
        "released": released,
        "put_aside": mended.put_aside,
        "carried": mended.carried,
    }
    audited.tell(session, "migrate_queue", "queues", mended.name, detail=detail)
    return released
