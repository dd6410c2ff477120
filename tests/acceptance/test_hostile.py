"""A catalogue of hostile requests, each with its exact answer, and nothing written that should not be.

The rows are in hostile/, by family. When a module's rows are through, the server still answers, every table has the
rows that it should have, and each line of the log is one JSON object without a secret.
"""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from settings import DEFAULT_RATE_LIMITS
from tests.acceptance.hostile import bodies, credentials, forged, framing, slow, targets, values
from tests.acceptance.hostile.facts import Facts
from tests.acceptance.hostile.row import Row, request
from tests.acceptance.hostile.slow import Slow
from tests.acceptance.hostile.wire import Answer, Wire
from tests.acceptance.installation import Embedded, Full, Installation
from tests.acceptance.installer import Installer

ROWS = [*framing.ROWS, *targets.ROWS, *bodies.ROWS, *credentials.ROWS, *values.ROWS]
PROBE = request("GET /v1/job-types/demo.echo HTTP/1.1")
UNTOLD = {"workers", "leases"}
"""Tables whose rows come and go with the processes."""


@dataclass
class Target:
    """The installation that is attacked; `trap` is where no token may make it call, `written` what rows wrote."""

    installation: Installation
    facts: Facts
    trap: socket.socket
    written: Counter[str] = field(default_factory=Counter)

    def connect(self) -> Wire:
        return Wire(int(self.installation.settings["PORT"]))

    def counts(self) -> Counter[str]:
        """How many rows each table has."""
        query = (
            "SELECT name FROM sqlite_master WHERE type = 'table'"
            if self.installation.mode == Embedded.mode
            else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        names = {name for (name,) in self.installation.sql(query)} - UNTOLD
        return Counter(
            {name: self.installation.sql(f'SELECT count(*) FROM "{name}"')[0][0] for name in names}  # noqa: S608 - own names
        )


EITHER = pytest.mark.parametrize(
    "mode", [Embedded.mode, pytest.param(Full.mode, marks=pytest.mark.long)], indirect=True, scope="session"
)
"""Both modes have the same doors, so that a short run knocks at those of one."""


@pytest.fixture(scope="module")
def target(mode: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    unlimited = ",".join(f"{name}=none" for name in DEFAULT_RATE_LIMITS)
    issuers = forged.issuers(tmp_path_factory.mktemp("issuer"))
    with ExitStack() as stack:
        trap = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        installation = Installer(request, stack)(mode, JOBMILL_RATE_LIMITS=unlimited, JOBMILL_JWT_ISSUERS=issuers)
        made = Target(installation, Facts(installation, trap), trap)
        before, said = made.counts(), {name: len(one.words) for name, one in installation.processes.items()}
        yield made
        assert installation.client.get("/readyz").json()["status"] == "ok"
        assert made.counts() == before + made.written
        for name, process in installation.processes.items():
            assert_told_well(process.words[said[name] :], made.facts)
        trap.settimeout(0)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.fixture(scope="module")
def slow_clients(target: Target) -> Iterator[dict[str, "Future[tuple[float, Answer | None]]"]]:
    """Those that take their time, which they do while the other rows are gone through."""
    wires, ends = [target.connect() for _ in slow.ROWS], [Future() for _ in slow.ROWS]
    for row, wire, done in zip(slow.ROWS, wires, ends, strict=True):
        arguments = (row, wire, target.facts.filled(row.begun), done)
        threading.Thread(target=slow.suffered, args=arguments, daemon=True).start()
    yield {row.name: done for row, done in zip(slow.ROWS, ends, strict=True)}
    for wire in wires:
        wire.socket.close()


def assert_told_well(words: str, facts: Facts) -> None:
    """Each line is one JSON object of ours, and holds no secret."""
    for line in words.splitlines():
        document = json.loads(line)
        assert document["event"] != "forged", line
        assert document["level"] in {"debug", "info", "warning"}, line
        assert not any(secret.decode() in line for secret in facts.secrets), line


@EITHER
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_hostile_request_gets_its_answer_and_no_more(target: Target, slow_clients: object, row: Row):
    with target.connect() as wire:
        wire.send(target.facts.filled(row.sent), ends=row.ends)
        answer = wire.answer(bodiless=row.sent.startswith(b"HEAD "))
        assert (answer.status if answer else None) == row.status, answer
        if answer:
            assert_told(answer, row)
        if row.closes:
            assert wire.answer() is None, "what came behind it was answered"
        else:
            wire.send(target.facts.filled(PROBE))
            probe = wire.answer()
            assert probe, "the connection was closed"
            assert probe.document.get("type") == "demo.echo", probe
    if row.writes:
        target.written["jobs"] += row.writes


@EITHER
@pytest.mark.timed
@pytest.mark.parametrize("row", slow.ROWS, ids=[row.name for row in slow.ROWS])
def test_a_slow_client_is_let_go_in_its_time(slow_clients: "dict[str, Future[tuple[float, Answer | None]]]", row: Slow):
    took, answer = slow_clients[row.name].result(60)
    assert (answer.status if answer else None, answer.document["code"] if answer else None) == (row.status, row.code)
    assert slow.GIVEN_SECONDS - 1 < took < slow.GIVEN_SECONDS + slow.LATE_SECONDS


def assert_told(answer: Answer, row: Row) -> None:
    """The answer is what the row says, in the form that all answers have."""
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    assert answer.headers["jobmill-version"]
    assert not {"set-cookie", "access-control-allow-origin", "strict-transport-security"} & answer.headers.keys()
    if row.closes:
        assert answer.headers["connection"] == "close"
    if row.code is not None and answer.body:
        document = answer.document
        assert document.get("code", document.get("error")) == row.code, document
        assert answer.headers["content-type"] in {"application/problem+json", "application/json"}
        assert b"Traceback" not in answer.body
    else:
        assert row.status is not None
        assert row.code is None or not answer.body
        assert row.code is not None or row.status < 400, answer


def test_there_are_more_rows_than_were_asked_for_and_each_has_its_name():
    assert len(ROWS) >= 120
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.why for row in [*ROWS, *slow.ROWS] if row.status is None)
