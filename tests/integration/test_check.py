"""What `jobmill check` finds, on real services: each thing that may be wrong is put there, and told of."""

import secrets as random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pika
import pytest
from sqlalchemy import text, update

from cli.check import CHECKS
from cli.checks import broker, motion, places, secrets, truth
from cli.checks.findings import Check, Finding, Level, Patient, Thresholds
from jobs import api_keys, signing_keys
from jobs.scopes import ROLES
from models import inspection, lease, queue, worker
from models import signing_keys as kept_keys
from models.database import Database
from models.dialect import POSTGRESQL
from models.ids import new_id
from models.states import State
from settings import Settings
from tests.acceptance.process import jobmill
from tests.factories import ago, jobs_in, tenant_id_of
from workers import topology

KEY = random.token_hex(32)


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> dict[str, Any]:
    full = {"database_url": "postgresql://unused"} if database.dialect == POSTGRESQL else {}
    return {"data_dir": tmp_path, "secret_key": KEY} | full


@pytest.fixture
def look(database: Database, settings: dict[str, Any]) -> Callable[..., list[Finding]]:
    """`look(check, **settings)`: what a check finds."""

    def found(check: Check, **further: Any) -> list[Finding]:
        patient = Patient(Settings(**settings | further), Thresholds(3, 30, 300), 4)
        patient._database = database
        return list(check(patient))

    return found


def levels(found: list[Finding]) -> set[Level]:
    return {finding.level for finding in found}


def register(database: Database, *queues: str, **columns: Any) -> Any:
    worker_id = columns.pop("id", None) or new_id()

    def step(session: Any) -> None:
        worker.register(session, worker_id, host="mill", pid=7, queues=queues, threads=4, version="0")
        if columns:
            session.execute(update(worker.workers).where(worker.workers.c.id == worker_id).values(**columns))

    database.run(step)


def plant(database: Database, state: State, how_many: int = 1, **columns: Any) -> None:
    database.run(lambda session: jobs_in(session, state, how_many, **columns))


def test_an_installation_that_is_well_has_nothing_but_fine_findings(database: Database, look: Any):
    register(database, "default")
    database.run(lambda session: lease.lead(session, "dispatcher", new_id(), timedelta(seconds=60)))
    for check in (
        truth.database,
        truth.indexes,
        truth.clocks,
        motion.dispatcher,
        motion.workers,
        motion.queues,
        motion.dead_letters,
        motion.pruning,
        secrets.given,
        secrets.expiring,
        secrets.signing,
    ):
        assert levels(look(check)) == {Level.OK}, check


def test_a_missing_index_is_told_with_the_statement_that_makes_it(database: Database, look: Any):
    database.run(lambda session: session.execute(text("DROP INDEX jobs_dead_by_group")))
    (finding,) = look(truth.indexes)
    assert "The index jobs_dead_by_group of jobs is missing. Mend it: CREATE INDEX " in finding.message
    with database.reading() as session:
        (broken,) = inspection.broken_indexes(session)
    assert "CONCURRENTLY" in broken.remedy or database.dialect != POSTGRESQL
    with database.single() as mending:
        mending.execute(text(broken.remedy))
    assert levels(look(truth.indexes)) == {Level.OK}


def test_an_index_that_was_left_invalid_is_told(postgresql_database: Database):
    spoil = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobs_claim'::regclass"
    postgresql_database.run(lambda session: session.execute(text(spoil)))
    with postgresql_database.reading() as session:
        (broken,) = inspection.broken_indexes(session)
    assert (broken.name, broken.table, broken.what) == ("jobs_claim", "jobs", "is invalid")
    with postgresql_database.single() as mending:
        mending.execute(text(broken.remedy))
    with postgresql_database.reading() as session:
        assert inspection.broken_indexes(session) == []


def test_tables_of_another_release_are_told(database: Database, look: Any):
    for revision, level in (("9999", Level.WARNING), ("0010", None)):
        database.run(lambda s, to=revision: s.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": to}))
        if level:
            assert levels(look(truth.database)) == {level}
        else:
            with pytest.raises(Exception, match="jobmill db upgrade"):
                look(truth.database)


def test_nobody_who_dispatches_or_works_is_told_with_the_command(database: Database, look: Any):
    (leader,), (nobody,) = look(motion.dispatcher), look(motion.workers)
    assert (leader.level, nobody.level) == (Level.WRONG, Level.WRONG)
    start = "jobmill up" if database.dialect != POSTGRESQL else "jobmill dispatcher"
    assert start in leader.message
    register(database, "default", consuming_at=None)
    assert levels(look(motion.workers)) == {Level.WRONG, Level.WARNING}


def test_due_work_without_a_worker_is_wrong_and_far_behind_a_warning(database: Database, look: Any):
    register(database, "default")
    plant(database, State.QUEUED, queue="later", due_at=ago(hours=-1))
    plant(database, State.QUEUED, 3, queue="default", due_at=ago(seconds=10))
    assert levels(look(motion.queues)) == {Level.OK}
    plant(database, State.QUEUED, queue="media", due_at=ago(minutes=10))
    plant(database, State.QUEUED, queue="default", due_at=ago(minutes=20))
    with database.reading() as session:
        assert inspection.waiting_queues(session) == ["default", "later", "media"]
    unserved, behind = look(motion.queues)
    assert (unserved.level, behind.level) == (Level.WRONG, Level.WARNING)
    assert unserved.message.startswith("Queue media has had due jobs for 10 min, and no live worker serves it.")
    assert "waited for 20 min" in behind.message


def test_a_paused_queue_is_told_as_that_and_not_as_one_that_is_behind(database: Database, look: Any):
    plant(database, State.QUEUED, queue="media", due_at=ago(minutes=10))
    database.run(lambda session: queue.pause(session, "media", "key:ops"))
    (finding,) = look(motion.queues)
    assert (finding.level, finding.message) == (
        Level.WARNING,
        "Queue media was paused by key:ops, and jobs wait in it. Go on: jobmill queues resume media",
    )


def test_many_or_old_dead_letters_are_told_by_queue_and_type(database: Database, look: Any):
    plant(database, State.DEAD, 2, queue="few")
    assert levels(look(motion.dead_letters)) == {Level.OK}
    plant(database, State.DEAD, 3, queue="many", type="csv.profile")
    plant(database, State.DEAD, queue="old", finished_at=ago(days=40))
    many, old = look(motion.dead_letters)
    assert many.message.startswith("3 dead letters of csv.profile in queue many, the oldest for 10 min.")
    assert old.message.startswith("1 dead letters of demo.echo in queue old, the oldest for 40 d.")
    assert levels([many, old]) == {Level.WARNING}


def test_what_should_have_been_pruned_is_told(database: Database, look: Any):
    plant(database, State.DEAD, finished_at=ago(days=400))
    plant(database, State.SUCCEEDED, finished_at=ago(days=30, minutes=30))
    assert levels(look(motion.pruning)) == {Level.OK}, "the dead are kept for ever, and an hour is no delay"
    (late,) = look(motion.pruning, retain_dead_days=300)
    assert (late.level, late.message[:60]) == (
        Level.WRONG,
        "The oldest dead job is 400 d old, and kept for 300 d only. S",
    )


@pytest.mark.parametrize(("seconds", "told"), [(0, None), (5, "5.0 s ahead or more"), (-90, "up to 90 s behind")])
def test_a_workers_clock_is_told_by_its_id(database: Database, look: Any, seconds: int, told: str | None):
    born = new_id()
    register(database, "default", id=born, started_at=inspection.made_at(born) - timedelta(seconds=seconds))
    register(database, "default", started_at=ago(seconds=0))
    (finding,) = look(truth.clocks)
    assert (told or "agree") in finding.message
    assert finding.level == (Level.WARNING if told else Level.OK)


def test_keys_that_expire_soon_are_named_and_revoked_ones_are_not(database: Database, look: Any):
    def make(session: Any) -> str:
        made = [
            api_keys.create_key(
                session,
                KEY.encode(),
                tenant_id=tenant_id_of(session),
                name=f"key of {days} days",
                scopes=ROLES["viewer"],
                expires_at=ago(days=-days) if days else None,
            ).key.id
            for days in (3, 5, 100, 0)
        ]
        api_keys.identity.revoke_key(session, made[1])
        return made[0]

    expires = database.run(make)
    (finding,) = look(secrets.expiring)
    assert finding.level == Level.WARNING
    assert f"The API key {expires} (key of 3 days) expires at " in finding.message


def test_a_signing_key_of_another_secret_or_of_old_is_told(database: Database, look: Any):
    key_id = database.run(lambda session: signing_keys.make_first(session, KEY.encode()))
    assert levels(look(secrets.signing)) == {Level.OK}
    (finding,) = look(secrets.signing, secret_key=random.token_hex(32))
    assert finding.level == Level.WRONG
    assert key_id in finding.message
    signed_from = update(kept_keys.signing_keys).values(signs_from=ago(days=400))
    database.run(lambda session: session.execute(signed_from))
    assert levels(look(secrets.signing)) == {Level.WARNING}


def test_weak_secrets_are_told_without_showing_them(database: Database, look: Any):
    weak, bootstrap = "change-me-please-0123456789abcdef!", "jm_ops1_" + "q8wr7ty6ui5op4asx"
    found = look(secrets.given, secret_key=weak, bootstrap_api_key=bootstrap)
    assert [finding.level for finding in found] == [Level.WRONG, Level.WARNING]
    assert not any(secret in finding.message for secret in (weak, bootstrap[8:]) for finding in found)


def test_a_key_file_that_others_may_read_is_told(sqlite_database: Database, tmp_path: Path):
    path = tmp_path / "api_key"
    path.write_text("jm_x")
    patient = Patient(Settings(data_dir=tmp_path), Thresholds(1, 1, 1), 1)
    path.chmod(0o640)
    assert levels(list(secrets.given(patient))) == {Level.WRONG}
    path.chmod(0o600)
    assert levels(list(secrets.given(patient))) == {Level.OK}


def test_an_archive_that_cannot_be_written_is_told(database: Database, look: Any, tmp_path: Path):
    assert levels(look(places.archive)) == {Level.OK}
    assert levels(look(places.archive, archive_dir=tmp_path)) <= {Level.OK, Level.WARNING}
    (finding,) = look(places.archive, archive_dir=tmp_path / "missing")
    assert finding.level == Level.WRONG
    assert "cannot be written here: No such file or directory" in finding.message


def test_redis_is_asked_if_there_is_to_be_one(look: Any, redis_url: str):
    assert "REDIS_URL is unset" in look(places.limits)[0].message
    assert levels(look(places.limits, redis_url=redis_url)) == {Level.OK}
    assert levels(look(places.limits, redis_url="redis://127.0.0.1:9/0")) == {Level.WARNING}


# RabbitMQ


@pytest.fixture
def full(postgresql_database: Database, rabbitmq_url: str, queue_prefix: str) -> Callable[..., Patient]:
    def made(**further: Any) -> Patient:
        told = {"database_url": "postgresql://unused", "rabbitmq_url": rabbitmq_url, "queue_prefix": queue_prefix}
        patient = Patient(Settings(**told | further), Thresholds(1, 1, 1), 1)
        patient._database = postgresql_database
        return patient

    return made


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[Any]:
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        yield connection.channel()


def test_a_node_that_confirms_nothing_is_a_warning_and_all_of_them_are_wrong(full: Any, rabbitmq_url: str):
    nobody = "amqp://guest:canary@127.0.0.1:9/"
    assert levels(list(broker.confirms(full()))) == {Level.OK}
    found = list(broker.confirms(full(rabbitmq_url=f"{nobody},{rabbitmq_url}")))
    assert [finding.level for finding in found] == [Level.WARNING, Level.OK]
    assert found[0].message.startswith("RabbitMQ at 127.0.0.1:9 confirms nothing: ")
    (lost,) = broker.confirms(full(rabbitmq_url=nobody))
    assert lost.level == Level.WRONG
    assert "canary" not in lost.message


@pytest.mark.parametrize("queue", ["webhooks", "redrives"], ids=["of the settings", "that everybody serves"])
def test_drifted_queues_are_named_with_the_remedy_and_none_is_made(
    full: Any, channel: Any, queue_prefix: str, queue: str
):
    assert levels(list(broker.arguments(full()))) == {Level.OK}
    for name in ("default", "default.XQ"):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
            channel.connection.channel().queue_declare(f"{queue_prefix}.{name}", passive=True)
    name = f"{queue_prefix}.{queue}"
    channel.queue_declare(name, durable=True, arguments=topology.queue_arguments(name) | {"x-delivery-limit": 20})
    channel.queue_declare(f"{name}.XQ", durable=True)
    found = list(broker.arguments(full()))
    assert levels(found) == {Level.WRONG}
    assert all("jobmill queues migrate" in finding.message for finding in found)
    assert [finding.message.split("'")[1] for finding in found] == [f"{name}.XQ", name]


def test_the_command_looks_at_everything_and_shows_no_secret(
    database_url: str, rabbitmq_url: str, redis_url: str, queue_prefix: str, tmp_path: Path
):
    secret = random.token_hex(32)
    told = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "REDIS_URL": redis_url,
        "JOBMILL_QUEUE_PREFIX": queue_prefix,
        "JOBMILL_SECRET_KEY": secret,
    }
    ended = jobmill("check", "--json", settings=told, folder=tmp_path)
    assert ended.returncode == 1, ended.stderr
    document = orjson.loads(ended.stdout)
    assert [finding["check"] for finding in document["findings"]] == list(CHECKS)
    wrong = {finding["check"] for finding in document["findings"] if finding["level"] == "wrong"}
    assert wrong == {"dispatcher", "workers"}
    assert secret not in ended.stdout + ended.stderr


def test_in_the_embedded_mode_it_says_what_to_start(tmp_path: Path):
    assert jobmill("db", "upgrade", settings={}, folder=tmp_path).returncode == 0
    ended = jobmill("check", settings={}, folder=tmp_path)
    assert ended.returncode == 1, ended.stderr
    wrong = [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("wrong")]
    assert wrong == ["dispatcher", "workers"]
    assert ended.stdout.count("Start one: jobmill up") == 2


def test_without_its_services_each_check_says_so_within_the_deadline(tmp_path: Path):
    told = {
        "DATABASE_URL": "postgresql://jobmill:canary@127.0.0.1:9/jobmill",
        "RABBITMQ_URL": "amqp://jobmill:canary@127.0.0.1:9/",
        "REDIS_URL": "redis://:canary@127.0.0.1:9/0",
    }
    ended = jobmill("check", "--deadline", "5", settings=told, folder=tmp_path)
    assert ended.returncode == 1
    lines = {line.split()[1]: line for line in ended.stdout.splitlines()}
    assert list(lines) == list(CHECKS)
    assert lines["database"].startswith("wrong")
    assert "canary" not in ended.stdout + ended.stderr
