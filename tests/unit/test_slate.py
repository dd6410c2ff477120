"""What a process says of its handlers in memory that it shares with its parent."""

import os
import signal
import subprocess
import sys

import pytest

from models.ids import new_id
from models.job import Ref
from workers import slate
from workers.slate import PLACES, Slate

A, B = Ref(new_id(), 1), Ref(new_id(), 2**40)
WRITES_AND_DIES = """
import os, signal, sys
from uuid import UUID
from models.job import Ref
from workers import slate
own = slate.received(int(sys.argv[1]))
first = own.began(Ref(UUID(sys.argv[2]), 7))
own.began(Ref(UUID(sys.argv[3]), 8))
own.ended(first)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_has_what_began_and_has_not_ended():
    mine = Slate()
    first = mine.began(A)
    mine.began(B)
    assert mine.read() == {A, B}
    mine.ended(first)
    assert mine.read() == {B}


def test_places_are_used_again_and_there_is_one_for_each_of_the_most_threads():
    mine = Slate()
    for _ in range(3):
        refs = [Ref(new_id(), 1) for _ in range(PLACES)]
        places = [mine.began(ref) for ref in refs]
        assert mine.read() == set(refs)
        for place in places:
            mine.ended(place)
    assert mine.read() == frozenset()


def test_what_a_process_ran_can_be_read_when_it_was_killed():
    with slate.make() as shared:
        mine = Slate(shared.fileno())
        arguments = [str(shared.fileno()), str(A.id), str(B.id)]
        killed = subprocess.run(
            [sys.executable, "-c", WRITES_AND_DIES, *arguments], pass_fds=[shared.fileno()], check=False, timeout=60
        )
    assert killed.returncode == -signal.SIGKILL
    assert mine.read() == {Ref(B.id, 8)}
    mine.close()


def test_it_needs_no_memory_without_a_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "memfd_create")
    with slate.make() as shared:
        Slate(shared.fileno()).began(A)
        assert Slate(shared.fileno()).read() == {A}


def test_a_process_that_got_one_keeps_no_other_descriptor_of_it():
    with slate.make() as shared:
        descriptor = os.dup(shared.fileno())
        slate.received(descriptor).began(A)
        assert Slate(shared.fileno()).read() == {A}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
