"""A process that forks with everything open: what the child does harms nothing of its parent's."""

import subprocess
import sys
from typing import Any

import pytest

DEADLINE = 60
# Forked in an interpreter of their own: this one has threads of other tests.
DATABASE = """
import os, sys
from pathlib import Path
from sqlalchemy import text
from models.database import connect_postgresql, connect_sqlite

url = sys.argv[1]
database = connect_postgresql(url, "jobmill tests", 2) if "://" in url else connect_sqlite(Path(url), 2)

def used():
    with database.transaction() as session, database.reading() as reading:
        return {opened.connection().connection.dbapi_connection for opened in (session, reading)}

def ask(times):
    for number in range(times):
        with database.transaction() as session, database.single() as other:
            for opened in (session, other)[: 2 if "://" in url else 1]:
                assert opened.scalar(text(f"SELECT {number}")) == number

ask(1)
before = used()
child = os.fork()
if not child:
    assert not used() & before, "these are the parent's connections"
    ask(300)
    database.close()
    sys.exit(0)  # with all that is collected at the end
ask(300)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert used() == before, "the child has cost its parent a connection"
ask(10)
"""
DOORBELL = """
import os, sys, threading
from models.database import postgresql_connector
from models.doorbell import NotifyDoorbell, listen

connect = postgresql_connector(sys.argv[1], "jobmill tests")
heard = threading.Event()
listen(connect, heard)
bell = NotifyDoorbell(connect)

def rings():
    assert heard.wait(10)
    heard.clear()

rings()  # it listens
bell.ring()
rings()
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.close(writing)
    bell.ring()
    os.read(reading, 1)  # until it was heard
    sys.exit(0)
rings()
os.write(writing, b".")
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
bell.ring()
rings()
"""
PUBLISHER = """
import os, sys, time
from models.ids import new_id
from models.job import Ref
from workers.publisher import Publisher
from workers.transport import Envelope

publisher = Publisher((sys.argv[1],), sys.argv[2], "jobmill tests", timeout=2)
publisher.start()
messages = [Envelope("default", (Ref(new_id(), 1),))] * 50
deadline = time.monotonic() + 20
while not publisher.connected and time.monotonic() < deadline:
    time.sleep(0.02)
assert all(publisher.publish(messages))
child = os.fork()
if not child:
    assert not any(publisher.publish(messages)), "nobody is there to hear of confirms"
    sys.exit(0)
while not os.waitpid(child, os.WNOHANG)[0]:
    assert all(publisher.publish(messages))
assert all(publisher.publish(messages))
assert publisher.depths(["default"])["default"] % 50 == 0, "the child has published"
publisher.stop()
"""


def run(program: str, *arguments: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.fault("fork-after-engine", "os.fork with PostgreSQL's pools full, both go on")
def test_a_forked_process_opens_connections_of_its_own_to_postgresql(database_url: str):
    run(DATABASE, database_url)


@pytest.mark.fault("fork-after-engine", "os.fork with SQLite's pool full, both go on")
def test_a_forked_process_opens_sqlite_anew(sqlite_path: Any):
    run(DATABASE, sqlite_path)


@pytest.mark.fault("fork-after-engine", "os.fork after the doorbell rang, both ring")
def test_a_forked_process_rings_the_doorbell_by_itself(database_url: str):
    run(DOORBELL, database_url)


@pytest.mark.fault("fork-after-engine", "os.fork while the publisher is connected, both publish")
def test_a_forked_process_cannot_write_into_its_parent_s_broker_connection(rabbitmq_url: str, queue_prefix: str):
    run(PUBLISHER, rabbitmq_url, queue_prefix)
