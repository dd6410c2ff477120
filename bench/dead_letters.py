"""`make bench ARGS=dead-letters`: the operators' lists, of queues too, over 1,300,000 jobs, and what burying costs.

Fills a database of its own with 1,000,000 finished, 200,000 dead and 100,000 waiting jobs of one tenant, asks the API
of a full installation for each list, and buries jobs on several connections at once.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
from sqlalchemy import insert

from bench.installation import Installation, of_its_own
from bench.scenarios import percentile
from jobs import api_keys
from jobs.scopes import ROLES
from models import identity
from models.database import Database, connect_postgresql
from models.fingerprint import fingerprint
from models.identity import ensure_tenant
from models.ids import new_id
from models.job import Ref, jobs
from models.moves import Ending, bury
from models.states import State

FINISHED, DEAD, WAITING = 1_000_000, 200_000, 100_000
BATCH = 10_000
TYPES, QUEUES, FAULTS = 10, 4, 8
ASKED = 200
BURIED, BURIERS = 4_000, 8
TRACE = "Traceback (most recent call last):\n" + '  File "/srv/acme/jobs.py", line 7, in run\n    work()\n' * 12

_FILL = """
    INSERT INTO jobs (id, tenant_id, type, queue, state, priority, args, result, error, error_type, fingerprint,
        attempt, max_attempts, lost, timeout_seconds, lease, created_at, due_at, dispatched_at, started_at, finished_at,
        worker_id, tags)
    SELECT (lpad(to_hex(%(base)s + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, %(tenant)s,
        'bench.type' || n %% %(types)s, 'idle' || n %% %(queues)s, %(state)s, 0, '{"number": 1}',
        CASE WHEN %(state)s = 'succeeded' THEN '1'::json END, fault.error, fault.error ->> 'type', fault.fingerprint,
        %(done)s, 5, 0, 60, %(done)s, at, at, began, began, ended,
        CASE WHEN %(done)s = 1 THEN gen_random_uuid() END, '{}'
    FROM (SELECT n, %(since)s + n * interval '1 second' AS at,
            CASE WHEN %(done)s = 1 THEN %(since)s + n * interval '1 second' END AS began,
            CASE WHEN %(done)s = 1 THEN %(since)s + (n + 1) * interval '1 second' END AS ended
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS made
    LEFT JOIN json_to_recordset(%(faults)s) AS fault(number int, error json, fingerprint text)
        ON fault.number = floor(power(n %% 97 / 97.0, 3) * %(how_many)s)
"""


def main() -> None:
    """Fill, ask for letters and for queues, bury, and print what it took."""
    with of_its_own() as running:
        began = time.monotonic()
        fill(running.database_url)
        _tell("filled in, s", time.monotonic() - began)
        counted = _get(running, "/v1/dead-letters/groups?limit=200")["data"]
        _tell("groups of dead letters", len(counted))
        _tell("dead letters that they count", sum(group["count"] for group in counted))
        for name, path in _paths(running).items():
            for how, took in asked(running, path).items():
                _tell(f"{name}, {how} ms", took * 1000)
        for name, took in _queues(running).items():
            _tell(name, took * 1000)
        for name, took in redrives(running).items():
            _tell(f"{name}, ms", took * 1000)
        for name, rate in burials(running.database_url).items():
            _tell(name, rate)


def fill(url: str) -> None:
    """The jobs, batch by batch as they would have come, and the statistics that autovacuum would have by then."""
    faults = [_fault(number) for number in range(FAULTS)]
    since = datetime.now(UTC) - timedelta(days=20)
    with psycopg.connect(url, autocommit=True) as connection:
        tenant = connection.execute("SELECT id FROM tenants WHERE name = 'default'").fetchone()
        for state, how_many, done in (
            (State.SUCCEEDED, FINISHED, 1),
            (State.DEAD, DEAD, 1),
            (State.QUEUED, WAITING, 0),
        ):
            told = {
                "tenant": tenant[0] if tenant else None,
                "state": str(state),
                "done": done,
                "since": since if done else since + timedelta(days=400),
                "base": int(since.timestamp() * 1000) + list(State).index(state) * 10_000_000,
                "types": TYPES,
                "queues": QUEUES,
                "how_many": FAULTS,
                "faults": json.dumps(faults if state is State.DEAD else []),
            }
            for first in range(0, how_many, BATCH):
                connection.execute(_FILL, told | {"first": first, "last": min(first + BATCH, how_many) - 1})
        connection.execute("VACUUM (ANALYZE) jobs")


def _fault(number: int) -> dict[str, Any]:
    error = {
        "type": f"acme.Fault{number // 2}",
        "message": f"it broke in way {'abcdefgh'[number]}",
        "code": "exception",
        "place": "acme.jobs:run",
        "trace": TRACE,
    }
    return {"number": number, "error": error, "fingerprint": fingerprint(error)}


def _paths(running: Installation) -> Mapping[str, str]:
    base = "/v1/dead-letters"
    group = _get(running, f"{base}/groups?limit=200")["data"][-1]["group"]
    middle = quote((datetime.now(UTC) - timedelta(days=19)).isoformat())
    page = _get(running, base)["next_cursor"]
    return {
        "list": base,
        "list, oldest first": f"{base}?order=oldest",
        "list, second page": f"{base}?cursor={page}",
        "list by type": f"{base}?type=bench.type3",
        "list by queue": f"{base}?queue=idle1",
        "list by error": f"{base}?error=acme.Fault1",
        "list by group": f"{base}?group={group}",
        "list by time": f"{base}?died_before={middle}",
        "list by all of them": f"{base}?type=bench.type3&queue=idle1&error=acme.Fault3&died_before={middle}",
        "list by what nobody has": f"{base}?type=bench.type3&queue=nobodys",
        "groups": f"{base}/groups",
        "one letter": f"{base}/{_get(running, base)['data'][0]['id']}",
    }


def _queues(running: Installation) -> dict[str, float]:
    """The list of queues and one of them, for an operator of the installation and for a tenant's."""
    figures = {}
    for whom, token in (("platform", _platform_token(running)), ("tenant", running.token)):
        for name, path in (("queues", "/v1/queues"), ("one queue", "/v1/queues/idle1")):
            for how, took in asked(running, path, token).items():
                figures[f"{name}, {whom}'s key, {how} ms"] = took
    return figures


def _platform_token(running: Installation) -> str:
    database = connect_postgresql(running.database_url, "jobmill bench", 1)
    with database.transaction() as session:
        pepper = identity.installation_secret(session)
        minted = api_keys.create_key(session, pepper, tenant_id=None, name="bench", scopes=ROLES["operator"])
    database.close()
    return minted.token


def asked(running: Installation, path: str, token: str = "") -> dict[str, float]:
    """p50 and p95 of one client that asks for it again and again."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    took = []
    for _ in range(ASKED + 10):
        began = time.monotonic()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token or running.token}"})
        answer = connection.getresponse()
        body = answer.read()
        took.append(time.monotonic() - began)
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path} was answered with {answer.status}: {body[:300]!r}")
    return {"p50": percentile(took[10:], 50), "p95": percentile(took[10:], 95)}


def redrives(running: Installation) -> dict[str, float]:
    """How long it takes to preview a redrive of all letters, and to make one of a filter; which is cancelled."""
    everything: dict[str, Any] = {"filter": {}, "dry_run": True}
    half = {"filter": {"queue": "idle1"}, "rate_per_second": 0.01}
    previewed = [_post(running, "/v1/redrives", everything)[1] for _ in range(10)]
    made, pinned = _post(running, "/v1/redrives", half)
    looked = asked(running, f"/v1/redrives/{made['id']}")
    _post(running, f"/v1/redrives/{made['id']}/cancel", None)
    return {
        f"a dry run of {DEAD:,} letters, p50": percentile(previewed, 50),
        f"a redrive of {made['matched']:,} letters is made": pinned,
        "how far it is, p50": looked["p50"],
        "how far it is, p95": looked["p95"],
    }


def burials(url: str) -> dict[str, float]:
    """Jobs buried a second on 8 connections, each in a transaction: into one group, into many, and uncounted."""
    database = connect_postgresql(url, "jobmill bench", BURIERS)
    one, many = '{"type": "Boom", "message": "the same"}', lambda number: json.dumps({"type": f"Boom{number}"})
    found = {
        "burials a second, all of one group": _buried(database, lambda _: one),
        "burials a second, each of its own group": _buried(database, many),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE jobs DISABLE TRIGGER count_dead_jobs_updated")
    found["burials a second, uncounted"] = _buried(database, lambda _: one)
    database.close()
    return found


def _buried(database: Database, error: Callable[[int], str]) -> float:
    refs = [Ref(new_id(), 1) for _ in range(BURIED)]
    with database.transaction() as session:
        tenant, _ = ensure_tenant(session, "default")
        session.execute(insert(jobs), [_running(ref, tenant.id) for ref in refs])

    def buried(number: int) -> None:
        ending = Ending(refs[number], error=error(number))
        if not database.run(lambda session: bury(session, [ending], "bench")):
            raise RuntimeError("A job was not buried.")

    with ThreadPoolExecutor(BURIERS) as threads:
        began = time.monotonic()
        list(threads.map(buried, range(BURIED)))
        return BURIED / (time.monotonic() - began)


def _running(ref: Ref, tenant_id: object) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "id": ref.id,
        "tenant_id": tenant_id,
        "type": "bench.type0",
        "queue": "idle0",
        "state": State.RUNNING,
        "priority": 0,
        "args": {},
        "attempt": 1,
        "max_attempts": 1,
        "lost": 0,
        "timeout_seconds": 3600,
        "lease": 1,
        "created_at": now,
        "due_at": now,
        "dispatched_at": now,
        "started_at": now,
        "worker_id": new_id(),
        "tags": {},
    }


def _get(running: Installation, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {running.token}"})
    return json.loads(connection.getresponse().read())


def _post(running: Installation, path: str, body: Any) -> tuple[Any, float]:
    """What is answered, and how long that took."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    began = time.monotonic()
    connection.request("POST", path, body=None if body is None else json.dumps(body), headers=headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    took = time.monotonic() - began
    if answer.status >= http.client.BAD_REQUEST:
        raise RuntimeError(f"{path} was answered with {answer.status}: {told}")
    return told, took


def _tell(name: str, value: float) -> None:
    print(f"{name:<48} {value:>10,.1f}", flush=True)
