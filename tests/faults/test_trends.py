"""What a soak makes of what it measured."""

import os
import socket
from collections import Counter
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.faults.soak import BOUNDS, Trend, trends
from tests.faults.trends import HOUR, Held, Point, by_minute, descriptors, percentiles, slope

STEP = 10.0


def rising(per_hour: float, *, life: str = "", since: float = 0.0, base: float = 50.0, points: int = 60) -> list[Point]:
    return [Point(since + STEP * n, base + per_hour * STEP * n / HOUR, life) for n in range(points)]


def test_a_slope_is_told_per_hour():
    assert slope(rising(36), 0) == pytest.approx(36)
    assert slope(rising(0), 0) == 0


def test_a_restart_is_no_fall():
    lives = rising(36, life="1") + rising(36, life="2", since=600, base=20)
    assert slope(lives, 0) == pytest.approx(36)


def test_what_a_life_shows_while_it_warms_up_is_left_out():
    boot = [Point(STEP * n, 10.0 * n, "1") for n in range(5)]
    assert slope(boot + rising(36, life="1", since=50), settled_after=50) == pytest.approx(36)


def test_of_too_little_there_is_no_slope():
    assert slope([], 0) is None
    assert slope(rising(36, points=1), 0) is None
    assert slope(rising(36), settled_after=HOUR) is None


def test_a_minute_with_few_samples_makes_no_point():
    samples = {n / 10: float(n) for n in range(600)} | {60.0: 7.0}
    assert by_minute(samples, min, fewest=100) == [Point(0.0, 0.0)]


def test_percentiles():
    assert percentiles([float(n) for n in range(101)]) == (50.0, 99.0)


@pytest.mark.parametrize(("per_hour", "within"), [(BOUNDS["memory, MB"] - 1, True), (BOUNDS["memory, MB"] + 1, False)])
def test_what_grows_faster_than_its_bound_is_too_much(per_hour: float, within: bool):
    (found,) = trends({"worker's child: memory, MB": rising(per_hour, life="1", points=360)})
    assert isinstance(found, Trend)
    assert found.within is within


def test_a_pool_that_fills_in_a_short_life_is_no_growth_yet():
    filled = [Point(STEP * n, 20 + min(8, n / 4), "1") for n in range(60)]
    (found,) = trends({"worker's child: descriptors": filled})
    assert found.within
    (found,) = trends({"worker's child: descriptors": rising(20, life="1", points=600)})
    assert not found.within


def test_descriptors_are_told_by_kind():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        port = server.getsockname()[1]
        database: Any = SimpleNamespace(settings={"DATABASE_URL": f"postgresql://x@127.0.0.1:{port}/y"})
        before = descriptors(database, psutil.Process())
        client.connect(server.getsockname())
        reading, writing = os.pipe()
        after = descriptors(database, psutil.Process())
        os.close(reading)
        os.close(writing)
    assert after - before == Counter(PostgreSQL=1, pipe=2)
    assert before - after == Counter(socket=1)  # the client's, which is known for what it is now


def test_a_life_s_descriptors_are_told_from_when_it_had_settled():
    looks = [(0.0, 1), (120.0, 5), (130.0, 9), (140.0, 6)]
    held = Held("dispatcher", [(at, Counter(PostgreSQL=count, pipe=2)) for at, count in looks])
    assert held.told(120) == "dispatcher, 140 s: PostgreSQL 5 9 6, pipe 2 2 2"
