"""A RabbitMQ, a PostgreSQL and a Redis of the tests' own, from the installed programs, to be
stopped, wiped and started again.

Each has its own ports, data and home in a folder of its own. The services that other tests share stay as they are.
"""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import psutil
import psycopg
import pytest
import redis

from tests.acceptance.process import free_port

# Debian's wrapper in /usr/sbin wants to be root; the script itself serves anyone.
RABBITMQ = "/usr/lib/rabbitmq/bin"
POSTGRESQL = "/usr/lib/postgresql/*/bin"
READY_SECONDS = 90
END_SECONDS = 30


class PrivateService(ABC):
    """One server process of the tests' own."""

    stop_signal = signal.SIGTERM

    def __init__(self, eventually: Callable[..., Any], within: Path | None = None) -> None:
        """Nothing runs yet; its folder is made `within` the one given, or where temporary files are."""
        self.eventually = eventually
        # Not below pytest's folder, which only one user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="jobmill_test_", dir=within))
        self.log = self.folder / "log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def installed(cls) -> bool:
        """Whether its programs are where Debian puts them."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, as the product is told."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it answers."""

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_SECONDS)

    def remove(self) -> None:
        """Stop it for good, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, command: list[str], answers: Callable[[], bool], **options: Any) -> None:
        # Ctrl-C ends the tests first; they stop it.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )
        try:
            self.eventually(answers, READY_SECONDS, 0.2)
        except BaseException as error:
            error.add_note(self.log.read_text(errors="replace")[-4000:])
            raise


class PrivateRabbitmq(PrivateService):
    """A RabbitMQ node with a name of its own."""

    def __init__(self, eventually: Callable[..., Any], within: Path | None = None) -> None:
        super().__init__(eventually, within)
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.default = 127.0.0.1:{self.port}\n")
        self.environment = os.environ | {
            "HOME": str(self.folder),  # where the cookie is kept
            "RABBITMQ_NODENAME": f"jobmill_test_{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }

    @classmethod
    def installed(cls) -> bool:
        return (Path(RABBITMQ) / "rabbitmq-server").exists()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def start(self) -> None:
        if not self.installed():
            pytest.fail(f"RabbitMQ is not in {RABBITMQ}. As root: apt-get install rabbitmq-server", pytrace=False)
        self._run([f"{RABBITMQ}/rabbitmq-server"], self._answers, env=self.environment)

    def kill(self) -> None:
        """End it as a power cut does: the script that was started, and the server that it started."""
        assert self.process is not None
        ended = [psutil.Process(pid) for pid in self.pids]
        for process in reversed(ended):
            process.kill()
        self.process.wait(END_SECONDS)
        psutil.wait_procs(ended, END_SECONDS)

    @property
    def pids(self) -> list[int]:
        """The script and all that it started; its server is the one whose name begins with `beam`."""
        assert self.process is not None
        started = psutil.Process(self.process.pid)
        return [started.pid, *(child.pid for child in started.children(recursive=True))]

    def wipe(self) -> None:
        """Make it forget every queue and message, while it runs."""
        for step in ("stop_app", "reset", "start_app"):
            self.control(step)
        self.eventually(self._answers, READY_SECONDS)

    def control(self, *words: str) -> str:
        """Have rabbitmqctl do something with this node; gives what it says."""
        done = self._command("rabbitmqctl", *words)
        done.check_returncode()
        return done.stdout

    def _command(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"{RABBITMQ}/{program}", "--quiet", *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )

    def _answers(self) -> bool:
        try:
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True


class PrivatePostgresql(PrivateService):
    """A PostgreSQL cluster; its programs refuse to be root, so root runs them as the user `postgres`."""

    stop_signal = signal.SIGINT  # as `pg_ctl stop -m fast`: without waiting for those who are connected

    def __init__(self, eventually: Callable[..., Any], within: Path | None = None) -> None:
        super().__init__(eventually, within)
        self.options: dict[str, str] = {}  # of the server's configuration, besides where it listens
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            self.user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}
        self.cluster = self.folder / "cluster"

    @classmethod
    def installed(cls) -> bool:
        return bool(_postgresql_programs())

    @property
    def url(self) -> str:
        return f"postgresql://jobmill@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        programs = _postgresql_programs()
        if not programs:
            pytest.fail(f"There is no {POSTGRESQL}. As root: apt-get install postgresql", pytrace=False)
        if not self.cluster.exists():
            self._make(f"{programs[-1]}/initdb")
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        settings = [word for name, value in (options | self.options).items() for word in ("-c", f"{name}={value}")]
        self._run([f"{programs[-1]}/postgres", "-D", str(self.cluster), *settings], self._answers, **self.user)

    def _make(self, initdb: str) -> None:
        subprocess.run(
            [initdb, "-D", str(self.cluster), "-U", "jobmill", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"],
            cwd=self.folder,
            capture_output=True,
            timeout=READY_SECONDS,
            check=True,
            **self.user,
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _postgresql_programs() -> list[str]:
    return sorted(glob.glob(POSTGRESQL))  # noqa: PTH207 - the pattern is absolute, which pathlib refuses


class PrivateRedis(PrivateService):
    """A Redis that keeps nothing on disk: it is empty after each start."""

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("There is no redis-server. As root: apt-get install redis-server", pytrace=False)
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._run([program, *words, "--dir", str(self.folder)], self._answers)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
