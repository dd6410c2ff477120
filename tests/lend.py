"""Runs a command with a PostgreSQL, a RabbitMQ and a Redis of its own: `python -m tests.lend bin/test -k rescue`.

What other runs left in the machine's services cannot slow these tests, nor these theirs. A service that the environment
names is used instead, and so is the machine's where its programs are not in Debian's places.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.private_services import PrivatePostgresql, PrivateRabbitmq, PrivateRedis, PrivateService

LENT: Mapping[str, type[PrivateService]] = {
    "JOBMILL_TEST_DATABASE_URL": PrivatePostgresql,
    "JOBMILL_TEST_RABBITMQ_URL": PrivateRabbitmq,
    "JOBMILL_TEST_REDIS_URL": PrivateRedis,
}
# Nothing that is lent outlives the run, so that none of it need survive a power cut. Several processes of tests, each
# with its pools, need more connections than PostgreSQL gives as it is installed.
POSTGRESQL = {"fsync": "off", "max_connections": "400"}
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the folder in it
ROOM_BYTES = 4 << 30
QUEUE_PREFIX = "jobmilltest_"


def main(command: list[str]) -> int:
    """Lend, run, take back; the command's exit code, or 1 if it left queues behind."""
    if not command:
        sys.exit("usage: python -m tests.lend COMMAND [ARGUMENT ...]")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with lent() as (environment, services):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which may still need its services
        code = subprocess.run(command, env=environment, check=False, preexec_fn=_interruptible).returncode
        if not code and (left := _left_behind(services)):
            sys.exit(f"the tests left {len(left)} queues behind, such as {', '.join(sorted(left)[:5])}")
        return code


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def lent() -> Iterator[tuple[dict[str, str], list[PrivateService]]]:
    """The environment with the URLs of all three services, and those of them that were started."""
    given = {variable for variable in LENT if os.environ.get(variable)}
    environment = os.environ | _found()
    within = _memory()
    services = [
        kind(_eventually, within) for variable, kind in LENT.items() if variable not in given and kind.installed()
    ]
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.remove)
            if isinstance(service, PrivatePostgresql):
                service.options |= POSTGRESQL
            service.start()
        variables = {kind: variable for variable, kind in LENT.items()}
        yield environment | {variables[type(service)]: service.url for service in services}, services


def _found() -> dict[str, str]:
    """What `bin/services install` says, which installs what lacks where it can."""
    said = subprocess.run(["bin/services", "install"], stdout=subprocess.PIPE, text=True, check=False)
    if said.returncode:
        sys.exit(said.returncode)
    words = shlex.split(said.stdout.replace("export ", ""))
    return dict(word.split("=", 1) for word in words)


def _memory() -> Path | None:
    """A folder in memory, if there is one with room for what the tests write.

    Every test that wants a database of its own makes and drops some 700 files, which took a quarter of a run's
    processor time on ext4: it looks for an inode that nobody has deleted lately.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        return MEMORY
    return None


def _left_behind(services: list[PrivateService]) -> list[str]:
    """Queues of tests that are there still: in a RabbitMQ that is kept, each run would add to them and slow it."""
    return [
        name
        for service in services
        if isinstance(service, PrivateRabbitmq)
        for name in service.control("list_queues", "--no-table-headers", "name").split()
        if name.startswith(QUEUE_PREFIX)
    ]


def _eventually(condition: Callable[[], Any], within_seconds: float = 10, every_seconds: float = 0.02) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"a service of the tests did not answer within {within_seconds} s")
        time.sleep(every_seconds)
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
