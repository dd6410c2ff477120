"""Whether every process has the secret key that the installation uses: who says which it is, and who is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.checks import secrets
from cli.checks.findings import Finding, Level, Patient, Thresholds
from cli.main import main
from jobs import api_keys, secret_key, signing, webhook_secrets
from jobs.secret_key import WrongSecretKey
from models import audit, identity
from models import secret_key as kept
from models.database import Database
from models.ids import new_id
from settings import Settings
from tests.acceptance.process import jobmill
from tests.factories import tenant_id_of

OURS, ANOTHER = "0f7a3c1d9e5b8246" * 3, "b1946ac92492d234" * 3


def _settings(key: str | None) -> Settings:
    return Settings(_env_file=None, secret_key=key)  # type: ignore[call-arg]


def _start(database: Database, key: str | None) -> None:
    """What a process does when it starts."""
    database.run(lambda session: secret_key.require(session, _settings(key)))


def _seal(database: Database, key: str | None) -> None:
    """A tenant gets a secret."""

    def step(session: Any) -> None:
        pepper = api_keys.pepper(session, _settings(key))
        webhook_secrets.add_secret(session, pepper, tenant_id_of(session), None, signing.new_secret(), new_id())

    database.run(step)


@pytest.mark.parametrize("other", [ANOTHER, None], ids=["another", "none"])
def test_the_first_process_with_a_key_says_which_it_is_and_others_do_not_start(
    database: Database, other: str | None
) -> None:
    _start(database, OURS)
    _start(database, OURS)
    with pytest.raises(WrongSecretKey, match="JOBMILL_SECRET_KEY"):
        _start(database, other)


def test_one_without_a_key_that_came_first_says_nothing_and_seals_nothing_later(database: Database) -> None:
    _start(database, None)
    _start(database, OURS)
    with pytest.raises(WrongSecretKey):
        _seal(database, None)
    _seal(database, OURS)


def test_what_is_sealed_by_the_databases_own_secret_is_not_lost_to_a_key_that_is_set_later(database: Database) -> None:
    _start(database, None)
    _seal(database, None)
    with pytest.raises(WrongSecretKey, match="in its database"):
        _start(database, OURS)
    _start(database, None)


def test_neither_the_key_nor_what_secrets_are_sealed_with_is_in_the_database(database: Database) -> None:
    _start(database, OURS)
    with database.reading() as session:
        mark = kept.find(session)
        own = identity.installation_secret(session)
    assert mark is not None
    assert OURS.encode() not in mark
    assert mark not in {secret_key.mark_of(ANOTHER.encode()), secret_key.mark_of(own)}


def test_a_refusal_tells_no_key(database: Database) -> None:
    _start(database, OURS)
    with pytest.raises(WrongSecretKey) as refused:
        _start(database, ANOTHER)
    assert not {OURS, ANOTHER} & set(str(refused.value).split())


# By commands


@pytest.fixture
def run(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`run(key, *words)`: a command with that secret key, on the embedded mode's database."""
    monkeypatch.chdir(sqlite_path.parent)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("JOBMILL_DATA_DIR", str(sqlite_path.parent))

    def ran(key: str, *words: str) -> Any:
        return CliRunner(env={"JOBMILL_SECRET_KEY": key}).invoke(main, words)

    return ran


def test_a_key_is_changed_on_purpose_by_a_command_which_the_audit_log_tells(
    run: Callable[..., Any], sqlite_database: Database
) -> None:
    _start(sqlite_database, OURS)
    changed = run(ANOTHER, "secret-key", "adopt", "--yes")
    assert (changed.exit_code, ANOTHER in changed.output) == (0, False)
    _start(sqlite_database, ANOTHER)
    with pytest.raises(WrongSecretKey):
        _start(sqlite_database, OURS)
    assert "already" in run(ANOTHER, "secret-key", "adopt", "--yes").output
    with sqlite_database.reading() as session:
        [entry] = audit.list_entries(session, None, None, 10)
    assert entry.action == "adopt_secret_key"


def test_commands_that_make_keys_refuse_another(run: Callable[..., Any], sqlite_database: Database) -> None:
    _start(sqlite_database, OURS)
    for words in (("keys", "create", "--platform", "--name", "x", "--role", "viewer"), ("signing-keys", "rotate")):
        refused = run(ANOTHER, *words)
        assert (refused.exit_code, "jobmill secret-key adopt" in refused.stderr) == (2, True)
        assert run(OURS, *words).exit_code == 0


def test_check_tells_of_another_key(database: Database, tmp_path: Path) -> None:
    def look(key: str | None) -> Finding:
        patient = Patient(_settings(key), Thresholds(1, 1, 1), 1)
        patient._database = database
        [finding] = secrets.same_key(patient)
        return finding

    assert look(OURS).level is Level.OK
    _start(database, OURS)
    assert [look(key).level for key in (OURS, ANOTHER, None)] == [Level.OK, Level.WRONG, Level.WRONG]


# By processes


@pytest.mark.parametrize("role", ["api", "dispatcher", "worker"])
def test_a_process_with_another_key_does_not_start_and_says_what_to_set(
    postgresql_database: Database,
    database_url: str,
    rabbitmq_url: str,
    queue_prefix: str,
    tmp_path: Path,
    role: str,
) -> None:
    _start(postgresql_database, OURS)
    told = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "JOBMILL_QUEUE_PREFIX": queue_prefix,
        "JOBMILL_SECRET_KEY": ANOTHER,
        "PORT": "0",
    }
    ended = jobmill(role, settings=told, folder=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "JOBMILL_SECRET_KEY" in ended.stderr
    assert ANOTHER not in ended.stdout + ended.stderr


def test_the_embedded_mode_with_another_key_does_not_start(sqlite_database: Database, sqlite_path: Path) -> None:
    _start(sqlite_database, OURS)
    told = {"JOBMILL_DATA_DIR": str(sqlite_path.parent), "JOBMILL_SECRET_KEY": ANOTHER, "PORT": "0"}
    ended = jobmill("up", settings=told, folder=sqlite_path.parent)
    assert ended.returncode == 2, ended.stderr
    assert "JOBMILL_SECRET_KEY" in ended.stderr
