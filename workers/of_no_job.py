"""Messages of the right form that name no job that is there: put aside for the operator, not acknowledged."""

from collections.abc import Callable, Sequence
from typing import Any

from dramatiq import Broker, MessageProxy, Middleware

from models.job import Ref


class OfNoJob(Exception):  # noqa: N818
    """None of the jobs that a message names is there."""


class PutAside(Middleware):
    """Has Dramatiq reject a message that ended in OfNoJob; should it fail in that, the message is acknowledged."""

    actor_options = {"throws"}  # noqa: RUF012 - as Dramatiq declares it

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Look how it ended."""
        del broker, result
        if isinstance(exception, OfNoJob):
            message.fail()


def putting_aside(run: Callable[[Sequence[Ref]], bool]) -> Callable[[Sequence[Ref]], None]:
    """The actor that runs jobs by `run`, which says whether there are any."""

    def actor(refs: Sequence[Ref]) -> None:
        if not run(refs):
            raise OfNoJob

    return actor
