"""What several requests ask of the database at one moment, asked in one statement.

A statement, its round trip and its commit are most of what a small request costs; where sixteen come at once, they cost
little more than one. Nobody waits for company: who finds no question out asks at once, and for himself.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from models.connection import LIMIT_SECONDS

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

PATIENCE_SECONDS = 2 * LIMIT_SECONDS
"""Longer than two questions can take, each of which the database's own limits end."""


class _Question(Generic[Asked, Answer]):
    """One thread's. `answers` holds what came of it, once something did."""

    __slots__ = ("answers", "asked", "leads", "turn")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.leads = False
        self.answers: tuple[Answer, ...] = ()
        self.turn = threading.Lock()
        self.turn.acquire()


class Together(Generic[Asked, Answer]):
    """Calls `ask` with what was asked by all threads that came while it was at work before; gives each its answer.

    `ask` takes a list and gives as many answers. It begins after all that it is asked had come, so that no answer is
    older than its question. If it fails for several, each asks again alone, on its own thread: what one of them asked
    wrongly, or waits for, is no one else's business. So what is asked must bear being asked twice.
    """

    def __init__(self, ask: Callable[[Sequence[Asked]], Sequence[Answer]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Question[Asked, Answer]] = deque()
        self._is_out = False

    def __call__(self, asked: Asked) -> Answer:
        """The answer to `asked`. Raises what `ask` raises."""
        question: _Question[Asked, Answer] = _Question(asked)
        with self._lock:
            self._waiting.append(question)
            question.leads, self._is_out = not self._is_out, True
        if not question.leads:
            self._wait(question)
        if question.leads:
            self._lead(question)
        return question.answers[0] if question.answers else self.alone(asked)

    def alone(self, asked: Asked) -> Answer:
        """The answer to `asked`, asked for itself."""
        (answer,) = self._ask([asked])
        return answer

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
            answers = self._ask([question.asked for question in taken])
            for question, answer in zip(taken, answers, strict=True):
                question.answers = (answer,)
        except Exception:
            if len(taken) == 1:
                raise
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_out = following is not None
                if following is not None:
                    following.leads = True
            for question in taken:
                if question is not own:
                    question.turn.release()
            if following is not None:
                following.turn.release()
