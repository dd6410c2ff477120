import threading
import time
from unittest.mock import create_autospec

import pytest

from jobs.context import Context
from models.ids import new_id
from models.job import Ref
from workers.running import InHand, Run
from workers.slate import Slate

A, B = Ref(new_id(), 1), Ref(new_id(), 1)
A_LATER = Ref(A.id, 2)


def test_a_job_is_taken_once_until_it_is_let_go():
    in_hand = InHand()
    assert in_hand.take([A, B, A]) == [A, B]
    assert in_hand.take([A]) == []
    in_hand.let_go([A])
    assert in_hand.take([A, B]) == [A]


def test_the_same_job_under_another_lease_is_another_start():
    in_hand = InHand()
    in_hand.take([A])
    assert in_hand.take([A_LATER]) == [A_LATER]


def test_of_a_hundred_threads_one_gets_the_job():
    in_hand, got = InHand(), []
    barrier = threading.Barrier(100)

    def take() -> None:
        barrier.wait()
        got.extend(in_hand.take([A]))

    threads = [threading.Thread(target=take) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [A]


def test_runs_are_those_begun_and_not_ended():
    in_hand, runs = InHand(), [Run(ref, create_autospec(Context), deadline=0) for ref in (A, B)]
    for run in runs:
        in_hand.began(run)
    in_hand.ended(runs[0])
    assert in_hand.runs() == runs[1:]


@pytest.mark.parametrize(("now", "overdue"), [(9.9, False), (10.0, True), (11.0, True)])
def test_a_run_is_overdue_from_its_deadline_on(now, overdue):
    assert Run(A, create_autospec(Context), deadline=10.0).overdue(now) is overdue


def test_a_run_outruns_its_limit_from_when_it_was_told_and_never_before():
    run = Run(A, create_autospec(Context), deadline=10.0)
    assert run.overdue_from(9.0) == 10.0
    assert run.overdue_from(30.0) == 30.0  # the process stood still, and its timekeeper has not looked yet
    run.timed_out_at = 30.2
    assert run.overdue_from(45.0) == 30.2


def test_what_runs_is_told_until_it_has_ended():
    slate = Slate()
    in_hand = InHand(slate)
    first, second = (Run(ref, create_autospec(Context), deadline=10.0) for ref in (A, B))
    in_hand.began(first)
    in_hand.began(second)
    assert (in_hand.runs(), slate.read()) == ([first, second], {A, B})
    in_hand.ended(first)
    assert (in_hand.runs(), slate.read()) == ([second], {B})
    in_hand.began(first)
    assert (in_hand.runs(), slate.read()) == ([second, first], {A, B})
    in_hand.ended(first)
    in_hand.ended(second)
    assert (in_hand.runs(), slate.read()) == ([], frozenset())


def test_waiting_ends_with_the_last_job():
    in_hand = InHand()
    assert in_hand.wait_until_empty(0) is True
    in_hand.take([A, B])
    in_hand.let_go([A])
    assert in_hand.wait_until_empty(0.01) is False
    other = threading.Thread(target=in_hand.let_go, args=[[B]])
    began = time.monotonic()
    other.start()
    assert in_hand.wait_until_empty(20) is True
    assert time.monotonic() - began < 10
    other.join()


def test_what_is_not_in_hand_can_be_told():
    in_hand = InHand()
    in_hand.take([A])
    assert in_hand.lacks([A, B, A_LATER]) == [B, A_LATER]
