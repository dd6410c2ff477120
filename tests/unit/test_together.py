"""What is asked together: each gets his own answer, nobody an old one, and nobody pays for another's mistake."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest

from api import together
from api.together import Together

MOST = 16
DEADLINE = 10.0

Waits = Callable[..., AbstractContextManager[list["Future[int]"]]]


class Asking:
    """Doubles numbers; the first question is out until it is let go. `asked` is what was asked, each time."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.is_out = threading.Event()
        self.go_on = threading.Event()
        self.refused: dict[int, BaseException] = {}

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        if len(self.asked) == 1:
            self.is_out.set()
            assert self.go_on.wait(DEADLINE)
        for number in numbers:
            if number in self.refused:
                raise self.refused[number]
        return [2 * number for number in numbers]


@pytest.fixture
def others_wait(eventually: Callable[..., Any]) -> Waits:
    """`others_wait(asking, numbers, most=16)`: while a question for 0 is out, others have come with these numbers, one
    after the other; then it is let go."""
    return contextmanager(partial(_others_wait, eventually))


def _others_wait(
    eventually: Callable[..., Any], asking: Asking, numbers: Sequence[int], most: int = MOST
) -> Iterator[list["Future[int]"]]:
    ask = Together(asking, most)
    with ThreadPoolExecutor(len(numbers) + 1) as threads:
        answers = [threads.submit(ask, 0)]
        assert asking.is_out.wait(DEADLINE)
        for come, number in enumerate(numbers, 1):
            answers.append(threads.submit(ask, number))
            eventually(lambda come=come: len(ask._waiting) == come)
        yield answers
        asking.go_on.set()


def test_who_is_alone_asks_at_once():
    asking = Asking()
    asking.go_on.set()
    ask = Together(asking, MOST)
    assert [ask(3), ask(4)] == [6, 8]
    assert asking.asked == [[3], [4]]


def test_who_comes_meanwhile_is_asked_for_together_and_gets_his_own_answer(others_wait: Waits):
    asking = Asking()
    with others_wait(asking, [1, 2, 3, 4, 5]) as answers:
        pass
    assert [answer.result(0) for answer in answers] == [0, 2, 4, 6, 8, 10]
    assert asking.asked == [[0], [1, 2, 3, 4, 5]]


def test_of_too_many_the_rest_is_asked_next(others_wait: Waits):
    asking = Asking()
    with others_wait(asking, [1, 2, 3, 4, 5], most=2) as answers:
        pass
    assert [answer.result(0) for answer in answers] == [0, 2, 4, 6, 8, 10]
    assert asking.asked == [[0], [1, 2], [3, 4], [5]]


def test_a_question_that_fails_for_several_fails_only_for_whom_it_fails_alone(others_wait: Waits):
    asking = Asking()
    asking.refused[2] = ValueError("two")
    with others_wait(asking, [1, 2, 3]) as answers:
        pass
    assert [answers[at].result(0) for at in (0, 1, 3)] == [0, 2, 6]
    assert answers[2].exception(0) is asking.refused[2]
    assert asking.asked[:2] == [[0], [1, 2, 3]]
    assert sorted(asking.asked[2:]) == [[1], [2], [3]]


def test_who_fails_alone_is_told_and_not_asked_again():
    asking = Asking()
    asking.go_on.set()
    asking.refused[1] = ValueError("one")
    ask = Together(asking, MOST)
    with pytest.raises(ValueError, match="one"):
        ask(1)
    assert ask(2) == 4
    assert asking.asked == [[1], [2]]


def test_a_thread_that_is_ended_while_it_asks_leaves_nobody_waiting(others_wait: Waits):
    asking = Asking()
    with others_wait(asking, [1, 2, 3]) as answers:
        asking.refused[0] = SystemExit()
    assert [answer.result(0) for answer in answers[1:]] == [2, 4, 6]
    assert isinstance(answers[0].exception(0), SystemExit)


def test_too_few_answers_are_no_ones_answers():
    ask = Together(lambda numbers: numbers[:-1], MOST)
    with pytest.raises(ValueError, match="shorter"):
        ask(1)


def test_who_waits_for_too_long_asks_alone(others_wait: Waits, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(together, "PATIENCE_SECONDS", 0.05)
    asking = Asking()
    with others_wait(asking, [1]) as answers:
        assert answers[1].result(DEADLINE) == 2
        assert asking.asked == [[0], [1]]
    assert answers[0].result(DEADLINE) == 0


def test_no_answer_is_older_than_its_question_and_each_is_answered_once():
    moments = itertools.count()

    def ask_when(came: Sequence[int]) -> list[tuple[int, int]]:
        began = next(moments)
        sizes.append(len(came))
        return [(moment, began) for moment in came]

    sizes: list[int] = []
    ask = Together(ask_when, MOST)

    def ask_often(_thread: int) -> list[tuple[int, tuple[int, int]]]:
        return [(came, ask(came)) for came in (next(moments) for _ in range(300))]

    with ThreadPoolExecutor(12) as threads:
        told = [pair for pairs in threads.map(ask_often, range(12)) for pair in pairs]
    assert all(came == about < began for came, (about, began) in told)
    assert sum(sizes) == len(told) == 12 * 300
    assert not ask._waiting
    assert not ask._is_out


def test_asking_alone_goes_past_those_who_wait():
    asking = Asking()
    alone = partial(Together.alone, Together(asking, MOST))
    asking.go_on.set()
    assert alone(7) == 14
