"""Keys and tenants on real databases, embedded and full."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from jobs import api_keys
from jobs.scopes import ROLES, Principal
from models import audit, identity
from models.database import Database, connect_postgresql, connect_sqlite
from settings import Settings

Run = Callable[..., Result]
SETTINGS = ("DATABASE_URL", "JOBMILL_DATA_DIR", "JOBMILL_SECRET_KEY", "JOBMILL_BOOTSTRAP_API_KEY")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["postgresql", "sqlite"])
def truth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database that the environment names, and a connection to it held open beside the command's, as by `up`."""
    if request.param == "postgresql":
        url = request.getfixturevalue("database_url")
        monkeypatch.setenv("DATABASE_URL", url)
        database = connect_postgresql(url, "jobmill-tests", 2)
    else:
        path = request.getfixturevalue("sqlite_path")
        monkeypatch.setenv("JOBMILL_DATA_DIR", str(path.parent))
        database = connect_sqlite(path, 2)
    with database.reading():
        yield database
    database.close()


def run(*args: str) -> Result:
    result = CliRunner().invoke(main, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def made(*args: str) -> dict:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def who(database: Database, token: str, **settings: str) -> Principal | None:
    with database.reading() as session:
        pepper = api_keys.pepper(session, Settings(_env_file=None, **settings))
        return api_keys.authenticate(partial(identity.find_key, session), pepper, token)


def test_a_key_made_here_opens_its_tenant_until_it_is_revoked(truth):
    tenant = made("tenants", "create", "acme")
    key = made("keys", "create", "--tenant", "acme", "--name", "ci", "--role", "submitter")
    principal = who(truth, key["token"])
    assert principal is not None
    assert (str(principal.tenant_id), principal.scopes) == (tenant["id"], ROLES["submitter"])
    assert run("keys", "revoke", key["id"]).exit_code == 0
    assert who(truth, key["token"]) is None
    again = run("keys", "revoke", key["id"])
    assert (again.exit_code, again.stdout) == (1, "")


def test_a_platform_key_has_no_tenant_and_just_its_scopes(truth):
    key = made("keys", "create", "--platform", "--name", "ops", "--scope", "jobs:read", "--scope", "queues:read")
    principal = who(truth, key["token"])
    assert principal is not None
    assert (principal.tenant_id, key["tenant"], {*principal.scopes}) == (None, None, {"jobs:read", "queues:read"})


def test_a_key_expires_when_it_should(truth):
    key = made("keys", "create", "--platform", "--name", "ops", "--role", "viewer", "--expires-in-days", "3")
    left = datetime.fromisoformat(key["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=2, hours=23) < left < timedelta(days=3, hours=1)


def test_the_token_is_shown_once_and_never_listed(truth):
    made("tenants", "create", "acme")
    result = run("keys", "create", "--tenant", "acme", "--name", "ci", "--role", "admin")
    (token,) = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("token")]
    assert who(truth, token) is not None
    assert token not in result.stderr
    _, key_id, secret = token.split("_")
    listed = run("keys", "list")
    assert listed.stdout.splitlines()[1].split()[:4] == [key_id, "acme", "ci", "admin"]
    assert secret not in listed.stdout + run("keys", "list", "--json").stdout


def test_keys_are_listed_by_tenant(truth):
    for name in ("acme", "other"):
        made("tenants", "create", name)
        made("keys", "create", "--tenant", name, "--name", f"of {name}", "--role", "viewer")
    made("keys", "create", "--platform", "--name", "ops", "--role", "viewer")
    assert {key["tenant"] for key in made("keys", "list")["data"]} == {"acme", "other", None}
    assert [key["name"] for key in made("keys", "list", "--tenant", "acme")["data"]] == ["of acme"]


def test_the_pepper_of_the_settings_is_used(truth, monkeypatch):
    monkeypatch.setenv("JOBMILL_SECRET_KEY", "s" * 32)
    key = made("keys", "create", "--platform", "--name", "ops", "--role", "viewer")
    assert who(truth, key["token"], secret_key="s" * 32) is not None
    monkeypatch.delenv("JOBMILL_SECRET_KEY")
    assert who(truth, key["token"]) is None


def test_a_token_pasted_for_an_id_revokes_its_key_and_is_not_repeated(truth):
    key = made("keys", "create", "--platform", "--name", "ops", "--role", "viewer")
    result = run("keys", "revoke", key["token"])
    assert result.exit_code == 0
    assert key["token"] not in result.output
    assert who(truth, key["token"]) is None


def test_tenants_are_made_once_and_listed_by_name(truth):
    second, first = made("tenants", "create", "b"), made("tenants", "create", "a")
    assert first["created"]
    assert made("tenants", "create", "b") == {**second, "created": False}
    assert [tenant["name"] for tenant in made("tenants", "list")["data"]] == ["a", "b"]
    assert [line.split()[1] for line in run("tenants", "list").stdout.splitlines()] == ["NAME", "a", "b"]


def test_a_tenant_that_is_not_there_is_refused_with_the_command_that_makes_it(truth):
    for words in (["keys", "list"], ["keys", "create", "--name", "n", "--role", "admin"]):
        result = run(*words, "--tenant", "nobody")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "jobmill tenants create nobody" in result.stderr
    assert made("keys", "list") == {"data": []}


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "create", "--name", "n", "--role", "admin"],
        ["keys", "create", "--name", "n", "--role", "admin", "--tenant", "a", "--platform"],
        ["keys", "create", "--name", "n", "--platform"],
        ["keys", "create", "--name", "n", "--platform", "--role", "admin", "--scope", "jobs:read"],
        ["keys", "create", "--name", "n", "--platform", "--role", "king"],
        ["keys", "create", "--name", "n", "--platform", "--scope", "jobs:eat"],
        ["keys", "create", "--name", "", "--platform", "--role", "admin"],
        ["keys", "create", "--name", "n", "--platform", "--role", "admin", "--expires-in-days", "0"],
        ["tenants", "create", " "],
    ],
)
def test_wrong_usage_ends_with_2(words):
    assert run(*words).exit_code == 2


def test_an_embedded_database_that_is_not_there_is_not_made_in_passing(tmp_path):
    result = run("tenants", "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Run: jobmill db upgrade" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_tables_are_told(empty_database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    result = run("keys", "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Run: jobmill db upgrade" in result.stderr


def test_a_database_that_is_away_ends_with_3_and_its_password_is_not_told(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://jobmill:hunter2@127.0.0.1:1/jobmill")
    result = run("keys", "list")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "127.0.0.1" in result.stderr
    assert "hunter2" not in result.stderr


def test_a_wrong_setting_ends_with_2_and_is_not_repeated(monkeypatch):
    monkeypatch.setenv("JOBMILL_SECRET_KEY", "hunter2")
    result = run("keys", "list")
    assert result.exit_code == 2
    assert "JOBMILL_SECRET_KEY" in result.stderr
    assert "hunter2" not in result.stderr


def test_signing_keys_are_rotated_with_an_overlap_or_at_once(truth):
    first = made("signing-keys", "rotate", "--at-once")["id"]
    second = made("signing-keys", "rotate")["id"]
    listed = made("signing-keys", "list")["data"]
    assert [(key["id"], key["signs"], key["retires_at"] is None) for key in listed] == [
        (second, False, True),
        (first, True, False),
    ]
    assert [line.split()[0] for line in run("signing-keys", "list").stdout.splitlines()] == ["ID", second, first]
    third = made("signing-keys", "rotate", "--at-once")["id"]
    assert [key["id"] for key in made("signing-keys", "list")["data"]] == [third]
    assert "signs in five minutes" in run("signing-keys", "rotate").stderr


def test_what_commands_change_is_in_the_audit_log(truth):
    made("tenants", "create", "acme")
    made("tenants", "create", "acme")
    key = made("keys", "create", "--tenant", "acme", "--name", "ci", "--role", "viewer")
    made("keys", "revoke", key["id"])
    assert run("keys", "revoke", key["id"]).exit_code == 1
    made("signing-keys", "rotate")
    told = truth.read(lambda session: audit.list_entries(session, None, None, 10))
    assert [entry.action for entry in told] == ["rotate_signing_keys", "revoke_key", "create_key", "create_tenant"]
    assert {entry.actor.split(":")[0] for entry in told} == {"cli"}
    assert key["token"] not in str(told)


def test_a_key_may_have_limits_of_its_own(truth):
    limits = ("--rate-limit", "submit=600/60", "--rate-limit", "read=none")
    key = made("keys", "create", "--platform", "--name", "x", "--role", "viewer", *limits)
    assert key["rate_limits"] == {"submit": "600/60", "read": "none"}
    principal = who(truth, key["token"])
    assert principal is not None
    assert principal.rate_limits == key["rate_limits"]
    for wrong in ("submit=fast", "fly=1/1", "submit=0/60"):
        told = run("keys", "create", "--platform", "--name", "x", "--role", "viewer", "--rate-limit", wrong)
        assert told.exit_code == 2
        assert "requests/seconds" in told.stderr
