from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from models.lineup import Waiting
from workers.duties.turns import Turns

NOW = datetime(2027, 1, 1, tzinfo=UTC)
BLUE, RED, GREEN = (UUID(int=number) for number in (1, 2, 3))


def waiting(tenant_id, weight=1, seconds=0):
    return Waiting(tenant_id, tenant_id, weight, NOW - timedelta(seconds=seconds), due=True)


def gate(number, tenant_id, seconds=0):
    return Waiting(UUID(int=100 + number), tenant_id, 1, NOW - timedelta(seconds=seconds), due=True, gated=True)


def serve(turns, among, wanted):
    shares = turns.shares(among, wanted)
    turns.taken(among, shares)
    return shares


@pytest.mark.parametrize(
    ("weights", "wanted", "expected"),
    [
        ({BLUE: 1}, 5, {BLUE: 5}),
        ({BLUE: 1, RED: 1}, 6, {BLUE: 3, RED: 3}),
        ({BLUE: 2, RED: 1}, 6, {BLUE: 4, RED: 2}),
        ({BLUE: 1, RED: 1, GREEN: 8}, 10, {BLUE: 1, RED: 1, GREEN: 8}),
        ({}, 5, {}),
        ({BLUE: 1}, 0, {}),
    ],
)
def test_shares_are_by_weight(weights, wanted, expected):
    assert Turns().shares([waiting(tenant_id, weight) for tenant_id, weight in weights.items()], wanted) == expected


def test_the_longest_due_begins():
    assert Turns().shares([waiting(BLUE, seconds=1), waiting(RED, seconds=2)], 1) == {RED: 1}


def test_turns_go_on_from_step_to_step():
    turns, among, got = Turns(), [waiting(BLUE, 3), waiting(RED)], Counter()
    for _ in range(40):
        got.update(serve(turns, among, 1))
    assert got == {BLUE: 30, RED: 10}


def test_who_comes_late_shares_from_then_on_and_has_saved_nothing_up():
    turns = Turns()
    for _ in range(10):
        serve(turns, [waiting(BLUE)], 50)
    assert serve(turns, [waiting(BLUE), waiting(RED)], 10) == {BLUE: 5, RED: 5}


def test_who_left_and_returns_has_saved_nothing_up():
    turns, both = Turns(), [waiting(BLUE), waiting(RED)]
    serve(turns, both, 10)
    for _ in range(10):
        serve(turns, [waiting(BLUE)], 50)
    assert serve(turns, both, 10) == {BLUE: 5, RED: 5}


def test_who_got_less_than_was_meant_keeps_its_place():
    turns, both = Turns(), [waiting(BLUE), waiting(RED)]
    turns.taken(both, {BLUE: 4})
    assert turns.shares(both, 4) == {RED: 4}


def test_many_gates_of_one_tenant_are_no_more_than_one_of_another():
    many = [gate(number, BLUE, seconds=10) for number in range(10)]
    shares = Turns().shares([*many, gate(50, RED)], 8)
    assert shares[gate(50, RED).share_id] == 4
    assert sorted(shares[one.share_id] for one in many if one.share_id in shares) == [1, 1, 1, 1]


def test_a_tenant_s_gates_take_turns_from_step_to_step():
    turns, got = Turns(), Counter()
    among = [*(gate(number, BLUE, seconds=number) for number in range(5)), gate(50, RED)]
    for _ in range(100):
        got.update(serve(turns, among, 1))
    assert [got[one.share_id] for one in among] == [10, 10, 10, 10, 10, 50]


def test_no_share_gets_more_than_there_is_room_for_and_others_have_the_rest():
    first, second, other = gate(1, BLUE), gate(2, BLUE), gate(3, RED)
    rooms = {first.share_id: 1, second.share_id: 2, other.share_id: 9}
    assert Turns().shares([first, second, other], 8, rooms) == {**rooms, other.share_id: 5}
    assert Turns().shares([first, second], 8, rooms) == {first.share_id: 1, second.share_id: 2}
    assert Turns().shares([first], 8, {first.share_id: 0}) == {}


def test_nobody_is_remembered_who_is_not_ahead():
    turns = Turns()
    for number in range(1000):
        serve(turns, [waiting(UUID(int=number))], 1)
        serve(turns, [gate(number, UUID(int=number))], 1)
    assert len(turns._tenants) <= 1
    assert len(turns._gates) <= 1


def test_of_gates_that_are_always_new_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr("workers.duties.turns.MOST_REMEMBERED", 20)
    turns, line = Turns(), [gate(number, BLUE) for number in range(5)]
    for number in range(5, 200):
        line.append(gate(number, BLUE))
        shares = serve(turns, line, 1)
        line = [one for one in line if one.share_id not in shares]
        serve(turns, [gate(number, UUID(int=number)), gate(-1, UUID(int=number))], 1)
    assert max(len(places) for places in turns._gates.values()) <= 20
    assert len(turns._gates) <= 20
