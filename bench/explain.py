"""`make bench ARGS=explain`: why a job does not run, asked over the same 1,300,000 jobs as the lists of dead letters.

All 100,000 waiting jobs are made due, half of them another tenant's, on four queues that nobody serves: the last of a
queue has 24,999 before it, and its tenant shares the queue.
"""

import time

import psycopg

from bench.dead_letters import asked, fill
from bench.installation import Installation, of_its_own
from models.ids import new_id
from models.states import State

_LAST = "SELECT id FROM jobs WHERE state = %s AND tenant_id = %s ORDER BY due_at DESC LIMIT 1"


def main() -> None:
    """Fill, ask, and print what it took."""
    with of_its_own() as running:
        began = time.monotonic()
        fill(running.database_url)
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            jobs = _jobs(connection)
        _tell("filled in, s", time.monotonic() - began)
        for name, job_id in jobs.items():
            _ask(running, name, job_id)


def _jobs(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, object]:
    """A job of each kind, by what it is; the waiting ones are due from then on but for one."""
    (tenant,) = connection.execute("SELECT id FROM tenants WHERE name = 'default'").fetchone() or (None,)
    later = _last(connection, State.QUEUED, tenant)
    other = connection.execute(
        "INSERT INTO tenants (id, name, created_at) VALUES (%s, 'another', now()) RETURNING id", [new_id()]
    ).fetchone() or (None,)
    connection.execute(
        "UPDATE jobs SET due_at = due_at - interval '500 days', "
        "tenant_id = CASE WHEN get_byte(uuid_send(id), 14) %% 2 = 0 THEN %s ELSE tenant_id END "
        "WHERE state = 'queued' AND id <> %s",
        [other[0], later],
    )
    connection.execute("VACUUM (ANALYZE) jobs")
    last = connection.execute(
        "SELECT id FROM jobs WHERE state = 'queued' AND tenant_id = %s AND due_at < now() ORDER BY due_at DESC LIMIT 1",
        [tenant],
    ).fetchone() or (None,)
    return {
        "of a job for later": later,
        "of the last of 25,000 due": last[0],
        "of a succeeded job": _last(connection, State.SUCCEEDED, tenant),
        "of a dead letter": _last(connection, State.DEAD, tenant),
    }


def _last(connection: psycopg.Connection[tuple[object, ...]], state: State, tenant: object) -> object:
    row = connection.execute(_LAST, [str(state), tenant]).fetchone()
    return row[0] if row else None


def _ask(running: Installation, name: str, job_id: object) -> None:
    for how, took in asked(running, f"/v1/jobs/{job_id}/explain").items():
        _tell(f"explain {name}, {how} ms", took * 1000)


def _tell(name: str, value: float) -> None:
    print(f"{name:<48} {value:>10,.1f}", flush=True)
