"""Letters are written down before they are pruned: what stands in the files, and that none goes that stands nowhere."""

import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import delete, func, select

from models import crashpoints, letters, moves
from models.crashpoints import CrashPointReached
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.ids import new_id
from models.job import Ref, job_events, jobs
from models.moves import Ending
from models.states import State
from tests.factories import ago, job_in, jobs_in
from tests.workbench import lent_database
from workers import archive as archive_module
from workers.archive import Archive, ArchiveFailed
from workers.duties.prune import EVERY_SECONDS, Prune

LEADS: Any = SimpleNamespace(
    held=True, in_motion=True, wake=threading.Event(), holder=new_id(), listened_seconds=3600.0
)
KEPT = {State.DEAD: timedelta(days=1), State.DISCARDED: timedelta(days=1), State.SUCCEEDED: timedelta(days=1)}


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def lent(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@pytest.fixture
def database(lent: Database) -> Database:
    with lent.transaction() as session:
        for table in (job_events, jobs):
            session.execute(delete(table))
    return lent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


@pytest.fixture
def armed() -> Iterator[Callable[[str], None]]:
    yield crashpoints.arm
    crashpoints.arm("")


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 64 KiB in memory."""
    if os.geteuid() != 0:
        pytest.fail("A small disk has to be mounted: run this test as root.", pytrace=False)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def plant(database: Database, state: State, how_many: int = 1, **columns: Any) -> list[Ref]:
    return database.run(lambda session: jobs_in(session, state, how_many, **{"finished_at": ago(days=2)} | columns))


def count(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(jobs)) or 0


def lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.iterdir())
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines(keepends=True)]


def found(database: Database, state: State = State.DEAD) -> list[letters.Letter]:
    return database.read(lambda s: letters.kept_long_enough(s, state, timedelta(days=1), 100, 1_000_000))


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0


def test_a_line_has_the_job_its_arguments_its_error_and_each_attempts(database: Database, folder: Path):
    def die(session: Any) -> Ref:
        ref = job_in(session, State.RUNNING, args={"url": "é", "n": 1e22})
        for error in ('{"type":"A","message":"first","trace":"at"}', '{"type":"B","message":"last"}'):
            ending = Ending(ref, error=error, reason="it failed")
            (moves.bury if "last" in error else moves.retry)(session, [ending], "worker:w")
            if "last" not in error:
                (claimed,) = moves.claim(session, "default", 0, 1, timedelta(minutes=1))
                (started,) = moves.start(session, [claimed.ref], new_id())
                ref = started.ref
        session.execute(jobs.update().values(finished_at=ago(days=2)))
        return ref

    ref = database.run(die)
    Prune(database, LEADS, KEPT, Archive(folder)).run_once()

    assert count(database) == 0
    (told,) = lines(folder)
    job, events = told["job"], told["events"]
    assert (job["id"], job["lease"], job["state"], job["type"]) == (str(ref.id), ref.lease, "dead", "demo.echo")
    assert job["args"] == {"url": "é", "n": 1e22}
    assert job["error"] == {"type": "B", "message": "last"}
    assert job["finished_at"].endswith("Z")
    assert [(event["move"], event["actor"], event["error"]["message"]) for event in events] == [
        ("retry", "worker:w", "first"),
        ("bury", "worker:w", "last"),
    ]


def test_dead_and_discarded_letters_are_written_and_other_jobs_just_go(database: Database, folder: Path):
    written = sample("jobmill_archived_letters_total")
    letters_to_be = plant(database, State.DEAD, 2) + plant(database, State.DISCARDED)
    plant(database, State.SUCCEEDED)
    young = plant(database, State.DEAD, finished_at=ago(hours=1))
    prune = Prune(database, LEADS, KEPT, Archive(folder))
    assert prune.run_once() < EVERY_SECONDS
    assert prune.run_once() == EVERY_SECONDS
    assert {told["job"]["id"] for told in lines(folder)} == {str(ref.id) for ref in letters_to_be}
    assert count(database) == len(young)
    assert sample("jobmill_archived_letters_total") == written + 3


def test_without_an_archive_they_go_as_before(database: Database):
    plant(database, State.DEAD, 2)
    assert Prune(database, LEADS, KEPT).run_once() == EVERY_SECONDS
    assert count(database) == 0


def test_files_are_for_their_owner_only_by_day_and_bounded(database: Database, folder: Path):
    now = [datetime(2026, 11, 28, 23, 59, tzinfo=UTC)]
    written = Archive(folder, most_bytes=1, now=lambda: now[0])
    other = Archive(folder, now=lambda: now[0])
    plant(database, State.DEAD)
    batch = found(database)
    for archive in (written, written, other, other):
        archive.write(batch)
    now[0] += timedelta(minutes=1)
    other.write(batch)
    sizes = {file.name: len(file.read_bytes().splitlines()) for file in folder.iterdir()}
    assert sizes == {
        "letters-2026-11-28-0001.jsonl": 1,
        "letters-2026-11-28-0002.jsonl": 1,
        "letters-2026-11-28-0003.jsonl": 2,
        "letters-2026-11-29-0001.jsonl": 1,
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_a_batch_is_bounded_in_what_it_holds_in_memory_and_never_empty(database: Database):
    plant(database, State.DEAD, 5, args={"value": "x" * 1000})
    for most, wanted in ((10, 1), (2600, 2), (1_000_000, 5)):
        kept = partial(letters.kept_long_enough, limit=10, most_characters=most)
        assert len(database.read(lambda s, kept=kept: kept(s, State.DEAD, timedelta(days=1)))) == wanted


@pytest.mark.parametrize("point", ["prune.after_archive", "prune.before_commit"])
def test_a_crash_between_writing_and_deleting_leaves_a_letter_twice_rather_than_nowhere(
    database: Database, folder: Path, armed: Callable[[str], None], point: str
):
    (ref,) = plant(database, State.DEAD)
    armed(f"{point}=raise")
    with pytest.raises(CrashPointReached):
        Prune(database, LEADS, KEPT, Archive(folder)).run_once()
    assert count(database) == 1
    Prune(database, LEADS, KEPT, Archive(folder)).run_once()
    assert count(database) == 0
    assert [(told["job"]["id"], told["job"]["lease"]) for told in lines(folder)] == [(str(ref.id), ref.lease)] * 2


def _edited(session: Any, ref: Ref) -> None:
    assert moves.edit(session, ref, '{"value":1}', '{"value":2}', "key:op", "args changed")


def _redriven(session: Any, ref: Ref) -> None:
    assert moves.redrive(session, [ref], "key:op")


def _discarded(session: Any, ref: Ref) -> None:
    assert moves.discard(session, [ref], "key:op")


@pytest.mark.parametrize("change", [_edited, _redriven, _discarded])
def test_a_letter_that_changes_while_it_is_written_stays(database: Database, folder: Path, change: Any):
    (ref, *_) = plant(database, State.DEAD, 2)

    class Slow(Archive):
        def write(self, batch: Any) -> None:
            super().write(batch)
            database.run(lambda session: change(session, ref))

    Prune(database, LEADS, {State.DEAD: timedelta(days=1)}, Slow(folder)).run_once()
    with database.reading() as session:
        assert session.scalars(select(jobs.c.id)).all() == [ref.id]


def test_one_that_somebody_changes_at_the_moment_is_not_waited_for(postgresql_database: Database):
    # Counted in different parts (`models.dead_groups`), of which whoever changes a letter holds one.
    part = new_id().int & ~7
    held_back, other = (plant(postgresql_database, State.DEAD, id=UUID(int=part + number))[0] for number in range(2))
    batch = found(postgresql_database)
    with postgresql_database.transaction() as session:
        moves.redrive(session, [held_back], "key:op")
        assert postgresql_database.run(lambda apart: moves.prune_letters(apart, batch)) == 1
    with postgresql_database.reading() as session:
        assert session.scalars(select(jobs.c.id)).all() == [held_back.id]
    assert other.id != held_back.id


def test_a_full_disk_stops_the_pruning_of_letters_only_until_there_is_room(
    database: Database, small_disk: Path, capfd: pytest.CaptureFixture[str]
):
    failures = sample("jobmill_archive_failures_total")
    prune = Prune(database, LEADS, KEPT, Archive(small_disk))
    plant(database, State.DISCARDED)
    prune.run_once()
    (whole,) = lines(small_disk)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(1 << 20))
    plant(database, State.DEAD, 9, args={"value": "x" * 3000})
    plant(database, State.SUCCEEDED)

    assert prune.run_once() == EVERY_SECONDS
    assert count(database) == 9
    assert "archive_failed" in (said := capfd.readouterr().out)
    assert "No space left on device" in said
    assert sample("jobmill_archive_failures_total") == failures + 1
    assert prune.run_once() == EVERY_SECONDS
    assert len(list(small_disk.iterdir())) == 2, "a file of nothing for each try would stay"

    ballast.unlink()
    prune.run_once()
    assert count(database) == 0
    assert len(lines(small_disk)) == 10
    assert whole in lines(small_disk)


def test_a_read_only_or_missing_folder_loses_none_and_is_not_made(database: Database, small_disk: Path):
    plant(database, State.DEAD)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folder in (small_disk, small_disk / "missing", small_disk.parent / "missing"):
        assert Prune(database, LEADS, KEPT, Archive(folder)).run_once() == EVERY_SECONDS
        with pytest.raises(ArchiveFailed, match=f"JOBMILL_ARCHIVE_DIR={folder} cannot be written: "):
            Archive(folder).write(found(database))
    assert count(database) == 1
    assert not (small_disk.parent / "missing").exists()


def test_after_a_failed_fsync_the_file_is_not_trusted_again(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    plant(database, State.DEAD)
    archive, batch = Archive(folder), found(database)
    archive.write(batch)

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(archive_module.os, "fsync", broken)
        with pytest.raises(ArchiveFailed, match="Input/output error"):
            archive.write(batch)
    archive.write(batch)
    assert [len(file.read_bytes().splitlines()) for file in folder.iterdir()] == [1, 1]


def test_a_file_that_is_taken_away_counts_as_not_written(database: Database, folder: Path):
    plant(database, State.DEAD)
    archive, batch = Archive(folder), found(database)
    archive.write(batch)
    next(folder.iterdir()).rename(folder.parent / "elsewhere")
    with pytest.raises(ArchiveFailed, match="taken away"):
        archive.write(batch)
    archive.write(batch)
    assert len(lines(folder)) == 1
