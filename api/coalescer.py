"""What several requests ask of the database at one moment, asked in one statement.

A statement, its round trip and its commit are most of what a small request costs; where sixteen come at once, they cost
little more than one. Nobody waits for company: who finds no question out asks at once, and for himself.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from models.errors import OF_ONE, Unavailable

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

PATIENCE_SECONDS = 0.3
"""Nobody waits for a question that is out for longer: its connection may be the one that hangs."""


class _Question(Generic[Asked, Answer]):
    """One thread's. `answers` holds what came of it, or `failure`, once something did."""

    __slots__ = ("answers", "asked", "failure", "leads", "turn")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.leads = False
        self.answers: tuple[Answer, ...] = ()
        self.failure: Unavailable | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Coalescer(Generic[Asked, Answer]):
    """Calls `ask` with what was asked by all threads that came while it was at work before; gives each its answer.

    `ask` takes a list and gives as many answers. It begins after all that it is asked had come, so that no answer is
    older than its question. If the database is away, all are told. If the call fails otherwise, each asks again alone,
    on its own thread: what one of them asked wrongly, or waits for, is no one else's business. Who has waited for 0.3 s
    asks alone as well. So what is asked must bear being asked twice, also at once.
    """

    def __init__(self, ask: Callable[[Sequence[Asked]], Sequence[Answer]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Question[Asked, Answer]] = deque()
        self._out_since: float | None = None
        """When the present question went out, of `time.monotonic`."""

    def __call__(self, asked: Asked) -> Answer:
        """The answer to `asked`. Raises what `ask` raises."""
        question: _Question[Asked, Answer] = _Question(asked)
        if not self._joins(question):
            return self.alone(asked)
        if not question.leads:
            self._wait(question)
        if question.leads:
            self._lead(question)
        if question.failure is not None:
            raise question.failure
        return question.answers[0] if question.answers else self.alone(asked)

    def alone(self, asked: Asked) -> Answer:
        """The answer to `asked`, asked for itself."""
        (answer,) = self._ask([asked])
        return answer

    def _joins(self, question: _Question[Asked, Answer]) -> bool:
        """Whether to ask with others: as the one who leads if no question is out, and not behind one that is late."""
        now = time.monotonic()
        with self._lock:
            if self._out_since is not None and now - self._out_since > PATIENCE_SECONDS:
                return False
            self._waiting.append(question)
            if self._out_since is None:
                question.leads, self._out_since = True, now
            return True

    def _wait(self, question: _Question[Asked, Answer]) -> None:
        """Until there is an answer, or it is our turn to ask; or until neither has come for too long."""
        if question.turn.acquire(timeout=PATIENCE_SECONDS):
            return
        with self._lock:
            if question in self._waiting and not question.leads:
                self._waiting.remove(question)

    def _lead(self, own: _Question[Asked, Answer]) -> None:
        """Ask for all who wait by now, and hand on to the first of those who come meanwhile."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        try:
            self._settle(taken)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                if following is not None:
                    following.leads = True
                self._out_since = time.monotonic() if following is not None else None
            for question in taken:
                if question is not own:
                    question.turn.release()
            if following is not None:
                following.turn.release()

    def _settle(self, taken: Sequence[_Question[Asked, Answer]]) -> None:
        """Note the answers, or whose failure it is: everybody's, or no one's yet if one of several brought it about."""
        try:
            answers = self._ask([question.asked for question in taken])
            for question, answer in list(zip(taken, answers, strict=True)):
                question.answers = (answer,)
        except Exception as error:
            if len(taken) == 1:
                raise
            if isinstance(error, Unavailable) and error.trouble not in OF_ONE:
                for question in taken:
                    question.failure = Unavailable(str(error), error.trouble)
