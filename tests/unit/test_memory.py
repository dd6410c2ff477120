from pathlib import Path

import pytest

from workers.memory import MemoryKills, killed_since, out_of_memory_kills

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 5\noom_group_kill 0\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "file", "text", "kills"),
    [
        ("0::/app/one\n", "app/one/memory.events", V2, 5),
        ("0::/\n", "memory.events", V2, 5),
        # In a container the path may be the host's, while the mount shows the group's own files.
        ("0::/host/path\n", "memory.events", V2, 5),
        ("5:cpu:/x\n4:memory:/app\n0::/\n", "memory/app/memory.oom_control", V1, 7),
        ("4:memory:/app\n", "memory/memory.oom_control", V1, 7),
        ("4:memory:/app\n", "memory/app/memory.oom_control", "oom_kill_disable 0\n", None),
        ("4:cpu:/app\n", "memory.events", V2, None),
        ("", "memory.events", V2, None),
    ],
)
def test_the_count_of_the_own_control_group_is_found(
    tmp_path: Path, membership: str, file: str, text: str, kills: int | None
):
    write(tmp_path / "cgroup", membership)
    write(tmp_path / "mount" / file, text)
    assert out_of_memory_kills(tmp_path / "cgroup", tmp_path / "mount", tmp_path / "none") == kills


@pytest.mark.parametrize(
    ("text", "kills"), [("oom_kill 3\n", 3), ("nr_free_pages 12\noom_kill 0\n", 0), ("a 1\n", None)]
)
def test_without_a_control_group_s_count_it_is_that_of_the_whole_system(tmp_path: Path, text: str, kills: int | None):
    write(tmp_path / "vmstat", text)
    assert out_of_memory_kills(tmp_path / "none", tmp_path, tmp_path / "vmstat") == kills


def test_where_nobody_counts_nothing_is_known(tmp_path: Path):
    assert out_of_memory_kills(tmp_path / "none", tmp_path, tmp_path / "none") is None


def test_this_machine_counts():
    assert out_of_memory_kills() is not None


@pytest.mark.parametrize(
    ("before", "now", "any_killed"), [(0, 0, False), (0, 1, True), (7, 7, False), (None, 1, False), (1, None, False)]
)
def test_a_count_that_grew_says_that_some_were_killed(before: int | None, now: int | None, any_killed: bool):
    assert killed_since(before, now) is any_killed


def test_only_what_was_killed_in_the_last_moments_tells_of_what_has_just_died():
    now, count = 0.0, 5
    kills = MemoryKills(lambda: count, lambda: now)
    assert not kills.any_lately()
    count = 6
    assert kills.any_lately()
    assert not kills.any_lately()  # it is told of one death only
    count = 7
    for _ in range(3):
        now += 1
        kills.look()
    assert not kills.any_lately()


def test_what_is_looked_at_often_is_counted_as_of_a_second_ago():
    now, count = 0.0, 0
    kills = MemoryKills(lambda: count, lambda: now)
    for _ in range(20):
        now += 0.2
        kills.look()
    count = 1
    now += 0.2
    kills.look()
    now += 0.2
    kills.look()
    assert kills.any_lately()
