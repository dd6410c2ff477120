"""One process of the product, started as the README starts it: its words in a file, its end by its own id only."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

JOBMILL = Path(sys.executable).parent / "jobmill"
HERE = Path(__file__).parent
END_SECONDS = 20
COMMAND_SECONDS = 60
# The last two: where modules are found, and a switch that would have each process compile all it imports, for seconds.
_OURS = re.compile(
    r"(JOBMILL|OTEL)_.*|DATABASE_URL|RABBITMQ_URL|REDIS_URL|PORT|LOG_LEVEL|PYTHONPATH|PYTHONDONTWRITEBYTECODE"
)


def environment(**settings: str) -> dict[str, str]:
    """This environment without whatever would configure the product, plus these settings."""
    kept = {name: value for name, value in os.environ.items() if not _OURS.fullmatch(name)}
    return kept | {"PYTHONPATH": str(HERE), "JOBMILL_JOBS": "ledger_jobs"} | settings


PORTS = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port to listen on, below those that the kernel gives to outgoing connections, which could take it meanwhile.

    Each of the processes that run tests at the same time has ports of its own, and gives none of them twice, so that
    nobody takes what another has found free and not bound yet.
    """
    number, processes = _place()
    not_given = [port for port in PORTS[number::processes] if port not in _given]
    for port in random.sample(not_given, min(len(not_given), 100)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and _may_bind(port):
                _given.add(port)
                return port
    pytest.fail("no free port among a hundred")


def _place() -> tuple[int, int]:
    """Which of how many processes of this test run we are."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return int(name.removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _may_bind(port: int) -> bool:
    """Whether a server could; as servers do, so that whoever is being forked now and has this socket for a moment too,
    until its program starts, does not keep the port from them."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def jobmill(*arguments: str | Path, settings: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; gives its exit code and words."""
    return subprocess.run(
        [JOBMILL, *arguments],
        env=environment(**settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


class Process:
    """A long-running command; it may be started again after its end, and goes on writing to the same file."""

    program: Sequence[str | Path] = (JOBMILL,)

    def __init__(self, *arguments: str | Path, settings: Mapping[str, str], folder: Path) -> None:
        self.arguments = arguments
        self.settings = dict(settings)
        self.folder = folder
        self.name = str(arguments[0])
        self.log = folder / f"{self.name}.log"
        self.running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.running is not None, f"{self.name} was never started"
        return self.running.pid

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    @property
    def words(self) -> str:
        """Everything it has said so far, on both streams."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        assert not self.alive, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [*self.program, *self.arguments],
                env=environment(**self.settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def send(self, number: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def wait(self, within_seconds: float = END_SECONDS) -> int:
        """Its exit code, once it has ended."""
        assert self.running is not None
        try:
            return self.running.wait(within_seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} had not ended after {within_seconds} s. It said:\n{self.words}")

    def ask_to_end(self) -> None:
        if self.alive:
            self.send(signal.SIGTERM)

    def end(self) -> None:
        """Make sure that it has ended, having been asked to: by waiting, then by force."""
        if self.running is None:
            return
        try:
            self.running.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.running.wait(END_SECONDS)
