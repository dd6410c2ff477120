"""What is asked together: each gets his own answer, nobody an old one, and nobody pays for another's mistake."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest

from api import coalescer
from api.coalescer import Coalescer
from models.errors import Trouble, Unavailable

MOST = 16
DEADLINE = 10.0

Waits = Callable[..., AbstractContextManager[list["Future[int]"]]]


class Asking:
    """Doubles numbers. The first question for a number that `hangs` stays out until that one is let go.

    `asked` is what was asked, each time. `fails` are numbers that spoil their question, `short` answers one too few.
    """

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.is_out = threading.Event()
        self.hangs = {0: threading.Event()}
        self.fails: dict[int, BaseException] = {}
        self.short = False

    def let_go(self) -> None:
        for held in self.hangs.values():
            held.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        again = any(numbers[0] in before for before in self.asked)
        self.asked.append(list(numbers))
        if numbers[0] in self.hangs and not again:
            self.is_out.set()
            assert self.hangs[numbers[0]].wait(DEADLINE)
        for number in numbers:
            if number in self.fails:
                raise self.fails[number]
        return [2 * number for number in numbers[: -1 if self.short and len(numbers) > 1 else None]]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescer, "PATIENCE_SECONDS", DEADLINE)


@pytest.fixture
def others_wait(eventually: Callable[..., Any], patient: None) -> Waits:
    """`others_wait(asking, numbers, most=16)`: while a question for 0 is out, others have come with these numbers, one
    after the other; then it is let go."""
    return contextmanager(partial(_others_wait, eventually))


def _others_wait(
    eventually: Callable[..., Any], asking: Asking, numbers: Sequence[int], most: int = MOST
) -> Iterator[list["Future[int]"]]:
    ask = Coalescer(asking, most)
    with ThreadPoolExecutor(len(numbers) + 1) as threads:
        answers = [threads.submit(ask, 0)]
        assert asking.is_out.wait(DEADLINE)
        for come, number in enumerate(numbers, 1):
            answers.append(threads.submit(ask, number))
            eventually(lambda come=come: len(ask._waiting) == come)
        yield answers
        asking.let_go()


def test_who_is_alone_asks_at_once():
    asking = Asking()
    asking.let_go()
    ask = Coalescer(asking, MOST)
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
    asking.fails[2] = ValueError("two")
    with others_wait(asking, [1, 2, 3]) as answers:
        pass
    assert [answers[at].result(0) for at in (0, 1, 3)] == [0, 2, 6]
    assert answers[2].exception(0) is asking.fails[2]
    assert asking.asked[:2] == [[0], [1, 2, 3]]
    assert sorted(asking.asked[2:]) == [[1], [2], [3]]


def test_who_fails_alone_is_told_and_not_asked_again():
    asking = Asking()
    asking.let_go()
    asking.fails[1] = ValueError("one")
    ask = Coalescer(asking, MOST)
    with pytest.raises(ValueError, match="one"):
        ask(1)
    assert ask(2) == 4
    assert asking.asked == [[1], [2]]


def test_a_thread_that_is_ended_while_it_asks_leaves_nobody_waiting(others_wait: Waits):
    asking = Asking()
    with others_wait(asking, [1, 2, 3]) as answers:
        asking.fails[0] = SystemExit()
    assert [answer.result(0) for answer in answers[1:]] == [2, 4, 6]
    assert isinstance(answers[0].exception(0), SystemExit)


def test_too_few_answers_are_no_ones_answers(others_wait: Waits):
    asking = Asking()
    asking.short = True
    with others_wait(asking, [1, 2]) as answers:
        pass
    assert [answer.result(0) for answer in answers] == [0, 2, 4]
    assert asking.asked[:2] == [[0], [1, 2]]
    assert sorted(asking.asked[2:]) == [[1], [2]]


def test_when_the_database_is_away_all_are_told_and_nobody_asks_again(others_wait: Waits):
    asking = Asking()
    asking.fails[2] = Unavailable("gone", Trouble.CONNECTION)
    with others_wait(asking, [1, 2, 3]) as answers:
        pass
    told = [answer.exception(0) for answer in answers[1:]]
    assert [(type(error), str(error), error.trouble) for error in told if isinstance(error, Unavailable)] == [
        (Unavailable, "gone", Trouble.CONNECTION)
    ] * 3
    assert len({id(error) for error in told}) == 3  # each with a trace of its own
    assert asking.asked == [[0], [1, 2, 3]]


@pytest.mark.parametrize("trouble", [Trouble.TIMEOUT, Trouble.CONFLICT])
def test_who_stands_in_someone_s_way_does_so_alone(others_wait: Waits, trouble: Trouble):
    asking = Asking()
    asking.fails[2] = Unavailable("locked", trouble)
    with others_wait(asking, [1, 2, 3]) as answers:
        pass
    assert [answers[at].result(0) for at in (0, 1, 3)] == [0, 2, 6]
    assert answers[2].exception(0) is asking.fails[2]


def test_who_waits_too_long_for_another_question_asks_alone(monkeypatch: pytest.MonkeyPatch, others_wait: Waits):
    monkeypatch.setattr(coalescer, "PATIENCE_SECONDS", 0.5)
    asking = Asking()
    with others_wait(asking, [1]) as answers:
        assert answers[1].result(DEADLINE) == 2
        assert asking.asked == [[0], [1]]
    assert answers[0].result(DEADLINE) == 0


def test_who_waits_too_long_for_his_own_question_asks_again_alone(others_wait: Waits, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coalescer, "PATIENCE_SECONDS", 2.0)
    asking = Asking()
    asking.hangs[1] = threading.Event()
    with others_wait(asking, [1, 2]) as answers:
        asking.hangs[0].set()  # and 1 asks for both, in vain
        assert answers[2].result(DEADLINE) == 4
        assert asking.asked == [[0], [1, 2], [2]]
        assert not answers[1].done()
    assert answers[1].result(0) == 2


def test_behind_a_question_that_is_late_nobody_waits_any_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coalescer, "PATIENCE_SECONDS", 0)
    asking = Asking()
    ask = Coalescer(asking, MOST)
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(ask, 0)
        assert asking.is_out.wait(DEADLINE)
        assert [ask(5), ask(6)] == [10, 12]
        assert not late.done()
        asking.let_go()
    assert asking.asked == [[0], [5], [6]]
    assert late.result(0) == 0


def test_no_answer_is_older_than_its_question_and_each_is_answered_once():
    moments = itertools.count()

    def ask_when(came: Sequence[int]) -> list[tuple[int, int]]:
        began = next(moments)
        sizes.append(len(came))
        return [(moment, began) for moment in came]

    sizes: list[int] = []
    ask = Coalescer(ask_when, MOST)

    def ask_often(_thread: int) -> list[tuple[int, tuple[int, int]]]:
        return [(came, ask(came)) for came in (next(moments) for _ in range(300))]

    with ThreadPoolExecutor(12) as threads:
        told = [pair for pairs in threads.map(ask_often, range(12)) for pair in pairs]
    assert all(came == about < began for came, (about, began) in told)
    assert sum(sizes) == len(told) == 12 * 300
    assert not ask._waiting
    assert ask._out_since is None


def test_asking_alone_goes_past_a_question_that_is_out(patient: None):
    asking = Asking()
    ask = Coalescer(asking, MOST)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(ask, 0)
        assert asking.is_out.wait(DEADLINE)
        assert ask.alone(7) == 14
        asking.let_go()
    assert asking.asked == [[0], [7]]
