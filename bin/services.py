"""Finds the PostgreSQL, RabbitMQ and Redis of the tests; on Debian and Ubuntu, as root, installs and starts what lacks.

Prints three export lines for the shell, and everything else on standard error. A service that answers is left alone.
"""

import glob
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pika
import psycopg
import redis

START_SECONDS = 120  # a first start of RabbitMQ on a small machine takes about 20
RUN_SECONDS = 900  # a first apt-get install over a slow line
ANSWER_SECONDS = 5

# Each statement may be repeated, since an earlier run may have been interrupted anywhere. The encoding is named because
# a cluster made without a locale would give SQL_ASCII.
PREPARE_POSTGRESQL = r"""
SELECT 'CREATE ROLE jobmill LOGIN CREATEDB PASSWORD ''jobmill'''
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'jobmill') \gexec
SELECT 'CREATE DATABASE jobmill_test OWNER jobmill TEMPLATE template0 ENCODING ''UTF8'' LOCALE ''C.UTF-8'''
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'jobmill_test') \gexec
"""


class UnusableError(Exception):
    """A service answers, but the tests could not work with it."""


def ask_postgresql(url: str) -> None:
    """Run a query, and see that the user may make the databases that tests work in."""
    with psycopg.connect(url, connect_timeout=ANSWER_SECONDS) as connection:
        may_create, encoding = connection.execute(
            "SELECT rolcreatedb OR rolsuper, current_setting('server_encoding')"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone() or (False, "")
        user = connection.info.user
    if not may_create:
        raise UnusableError(f"its user may not create databases. As its administrator: ALTER ROLE {user} CREATEDB")
    if encoding != "UTF8":
        raise UnusableError(f"its database is in {encoding}, and the tests need one in UTF8")


def ask_rabbitmq(url: str) -> None:
    """Open a channel, which takes a whole login."""
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = ANSWER_SECONDS
    connection = pika.BlockingConnection(parameters)
    connection.channel()
    connection.close()


def ask_redis(url: str) -> None:
    """Ping, at once or not at all."""
    with redis.Redis.from_url(
        url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=ANSWER_SECONDS, retry=None
    ) as client:
        client.ping()


@dataclass(frozen=True)
class Service:
    """What the tests need of one service, and how Debian provides it."""

    name: str
    variable: str  # names one URL, and then only that one is asked
    usual_urls: tuple[str, ...]
    ask: Callable[[str], None]
    package: str  # also what `service NAME start` calls it
    program: str  # its server's path as a pattern, which tells whether it is installed

    @property
    def given_url(self) -> str | None:
        """What the environment says."""
        return os.environ.get(self.variable) or None

    @property
    def installed(self) -> bool:
        """Whether the server is on this machine."""
        return bool(glob.glob(self.program))  # noqa: PTH207 - the pattern is absolute, which pathlib refuses


SERVICES = (
    Service(
        name="PostgreSQL",
        variable="JOBMILL_TEST_DATABASE_URL",
        usual_urls=(
            "postgresql://jobmill:jobmill@127.0.0.1:5432/jobmill_test",
            "postgresql://postgres@127.0.0.1:5432/postgres",
        ),
        ask=ask_postgresql,
        package="postgresql",
        program="/usr/lib/postgresql/*/bin/postgres",
    ),
    Service(
        name="RabbitMQ",
        variable="JOBMILL_TEST_RABBITMQ_URL",
        usual_urls=("amqp://guest:guest@127.0.0.1:5672/",),
        ask=ask_rabbitmq,
        package="rabbitmq-server",
        program="/usr/sbin/rabbitmq-server",
    ),
    Service(
        name="Redis",
        variable="JOBMILL_TEST_REDIS_URL",
        usual_urls=("redis://127.0.0.1:6379/0",),
        ask=ask_redis,
        package="redis-server",
        program="/usr/bin/redis-server",
    ),
)


def say(line: str) -> None:
    """Speak on standard error: standard output is for the shell."""
    print(f"services: {line}", file=sys.stderr, flush=True)


def find(service: Service) -> tuple[str | None, str]:
    """The first URL that answers as the tests need it, or None and why not."""
    reason = ""
    for url in [service.given_url] if service.given_url else service.usual_urls:
        try:
            service.ask(url)
        except (
            psycopg.Error,
            pika.exceptions.AMQPError,
            redis.RedisError,
            OSError,
            ValueError,
            UnusableError,
        ) as error:
            reason = (str(error) or repr(error)).splitlines()[0]  # pika's errors often have no text
        else:
            return url, ""
    return None, reason


def run(*command: str, text: str = "") -> None:
    """Run a command of the system's with this text as its input; its words go to standard error."""
    say(shlex.join(command))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        subprocess.run(
            command, check=True, input=text, text=True, stdout=sys.stderr, env=environment, cwd="/", timeout=RUN_SECONDS
        )
    except (subprocess.SubprocessError, OSError) as error:
        sys.exit(f"services: {error}")


def install(services: list[Service]) -> None:
    """Install with Debian's packages those that are not on this machine."""
    packages = [service.package for service in services if not service.installed]
    if packages:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", *packages)


def start(services: list[Service]) -> None:
    """Start them, with systemd or without, and give PostgreSQL the role and database of the tests."""
    for service in services:
        run("service", service.package, "start")
        if service.ask is ask_postgresql:
            run("runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", text=PREPARE_POSTGRESQL)


def explain(missing: dict[Service, str]) -> None:
    """Say which service cannot be used, why, and the exact command that provides it."""
    for service, reason in missing.items():
        where = f"the URL in {service.variable}" if service.given_url else service.usual_urls[0].split("@")[-1]
        say(f"{service.name} cannot be used at {where}: {reason}")
    if any(service.given_url for service in missing):
        say("Start what the variable names, or unset the variable to use a service of this machine.")
        return
    say(f"On Debian or Ubuntu, run as root: {shlex.quote(str(Path(__file__).with_suffix('')))} install")
    say("Anywhere else, start them by hand, and where their URLs are not the usual ones, name them:")
    for service in missing:
        say(f"  export {service.variable}={service.usual_urls[0]}")


def provide(missing: dict[Service, str], stage: str) -> bool:
    """Install and start as far as the stage and this machine allow; whether there is now something to wait for."""
    may = os.geteuid() == 0 and shutil.which("apt-get") and not any(service.given_url for service in missing)
    if stage == "check" or not may:
        return False
    if stage == "install":
        install(list(missing))
    installed = [service for service in missing if service.installed]
    start(installed)
    return len(installed) == len(missing)


def look(services: Iterable[Service]) -> tuple[dict[Service, str], dict[Service, str]]:
    """The URLs of those that answer, and the reasons of those that do not."""
    found, missing = {}, {}
    for service in services:
        url, reason = find(service)
        if url:
            found[service] = url
        else:
            missing[service] = reason
    return found, missing


def main(arguments: list[str]) -> int:
    """Look, provide what is missing, and look again until all answer or time is up."""
    if arguments not in (["check"], ["start"], ["install"]):
        say("usage: bin/services check | start | install")
        return 2
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # what it would log is said once, in our words
    found, missing = look(SERVICES)
    if missing and provide(missing, arguments[0]):
        deadline = time.monotonic() + START_SECONDS
        while missing and time.monotonic() < deadline:
            time.sleep(0.5)
            answering, missing = look(missing)
            found |= answering
    if missing:
        explain(missing)
        return 1
    for service in SERVICES:
        print(f"export {service.variable}={shlex.quote(found[service])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
