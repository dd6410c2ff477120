"""A signal to stop is heard at whichever moment it comes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HELD = """
import signal
from cli.stopping import StopSignal
stop = StopSignal(patient=True)
with stop.event._cond:  # as the main thread does at moments of every wait
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
stop.wait()
"""
TWICE = """
import signal
from cli.stopping import StopSignal
stop = StopSignal()
with stop.event._cond:  # so that the first has not been passed on yet
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
"""


def status_of(program: str) -> int:
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=20, check=False)
    return ran.returncode


def test_a_signal_in_the_middle_of_a_wait_is_heard():
    assert status_of(HELD) == 0


def test_a_second_signal_ends_the_process_at_once():
    assert status_of(TWICE) == 128 + 2
