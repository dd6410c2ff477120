"""Settings: where they come from, which source wins, and how a wrong one is told."""

import json
from pathlib import Path

import pytest

import settings
from settings import BadSetting, Settings

KEY = "jm_ops1_" + "x" * 43
VARIABLES = sorted({str(field.validation_alias) for field in Settings.model_fields.values()} | {"JOBMILL_SECRETS_DIR"})


def issuers(**told: object) -> str:
    """A list of one issuer."""
    whole = {"issuer": "https://canary.example", "audience": "canary", "jwks": "https://canary.example/jwks.json"}
    return json.dumps([{**whole, **told}])


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor an .env of whoever runs the tests."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("JOBMILL_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.chdir(tmp_path)


def _refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting) as raised:
        settings.load()
    return str(raised.value)


def test_nothing_set_is_the_embedded_mode() -> None:
    loaded = settings.load()

    assert loaded.embedded
    assert (loaded.host, loaded.port, loaded.data_dir) == ("127.0.0.1", 8000, Path(".jobmill"))
    assert loaded.rabbitmq_urls == ()


def test_a_database_url_is_the_full_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://db1,db2/jobmill")

    assert not settings.load().embedded


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("PORT", "")

    assert settings.load() == Settings()


def test_a_flag_wins_over_the_environment_over_the_file_over_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "PORT").write_text("1")
    assert settings.load().port == 1
    (tmp_path / ".env").write_text("PORT=2\n")
    assert settings.load().port == 2
    monkeypatch.setenv("PORT", "3")
    assert settings.load().port == 3
    assert settings.load(port=4).port == 4
    assert settings.load(port=None).port == 3


def test_a_secret_file_gives_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "JOBMILL_SECRET_KEY").write_text("s" * 32)

    secret = settings.load().secret_key
    assert secret
    assert secret.get_secret_value() == "s" * 32


def test_variables_of_other_programs_are_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in {"HOST": "example.org", "SECRET_KEY": "k" * 40, "THREADS": "3"}.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / ".env").write_text("QUEUES=other\n")

    loaded = settings.load()
    assert (loaded.host, loaded.secret_key, loaded.threads) == ("127.0.0.1", None, 8)
    assert loaded.queues == ("default", "webhooks")


def test_lists_are_split_at_commas_and_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBMILL_QUEUES", " media, default,")
    monkeypatch.setenv("JOBMILL_JOBS", "acme.jobs,acme.reports")
    monkeypatch.setenv("JOBMILL_WEBHOOK_ALLOWED_NETWORKS", "10.20.0.0/16, fd00:12::/32")
    monkeypatch.setenv("RABBITMQ_URL", "amqp://mq1,amqps://mq2")

    loaded = settings.load()

    assert loaded.queues == ("media", "default")
    assert loaded.job_modules == ("acme.jobs", "acme.reports")
    assert [str(network) for network in loaded.webhook_allowed_networks] == ["10.20.0.0/16", "fd00:12::/32"]
    assert loaded.rabbitmq_urls == ("amqp://mq1", "amqps://mq2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:canary@db/x"),
        ("RABBITMQ_URL", "amqp://mq1,http://u:canary@mq2"),
        ("REDIS_URL", "http://u:canary@cache"),
        ("JOBMILL_BOOTSTRAP_API_KEY", "canary"),
        ("JOBMILL_SECRET_KEY", "canary"),
        ("PORT", "canary"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("LOG_LEVEL", "canary"),
        ("JOBMILL_QUEUES", "Wrong"),
        ("JOBMILL_QUEUES", ","),
        ("JOBMILL_QUEUE_PREFIX", "with space canary"),
        ("JOBMILL_THREADS", "0"),
        ("JOBMILL_RETAIN_DEAD_DAYS", "-1"),
        ("JOBMILL_RETAIN_SUCCEEDED_DAYS", "inf"),
        ("JOBMILL_RETAIN_DISCARDED_DAYS", "1e9"),
        ("JOBMILL_GRACE_SECONDS", "nan"),
        ("JOBMILL_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("JOBMILL_WEBHOOK_ALLOW_HTTP", "canary"),
        ("JOBMILL_TRUSTED_PROXIES", "canary"),
        ("JOBMILL_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("JOBMILL_PUBLIC_URL", "jobs.canary.org"),
        ("JOBMILL_PUBLIC_URL", "https://jobs.canary.org/"),
        ("JOBMILL_BACKLOG_LIMIT_SECONDS", "0"),
        ("JOBMILL_RATE_LIMITS", "canary"),
        ("JOBMILL_RATE_LIMITS", "read=canary"),
        ("JOBMILL_RATE_LIMITS", "canary=1/60"),
        ("JOBMILL_RATE_LIMITS", "read=0/60"),
        ("JOBMILL_RATE_LIMITS", "read=60"),
        ("JOBMILL_JWT_ISSUERS", "canary"),
        ("JOBMILL_JWT_ISSUERS", "{}"),
        ("JOBMILL_JWT_ISSUERS", issuers()),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", tenant_claim="canary")),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", algorithms=["HS256"])),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", algorithms=["none"])),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", algorithms=[])),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", jwks="http://canary.example/jwks.json")),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", jwks="ftp://canary.example/jwks.json")),
        ("JOBMILL_JWT_ISSUERS", issuers(tenant="canary", audiences=["canary"])),
        ("JOBMILL_JWT_ISSUERS", f"[{issuers(tenant='canary')[1:-1]},{issuers(tenant='canary')[1:-1]}]"),
    ],
)
def test_a_wrong_value_names_itself_its_source_and_a_right_one_never_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    told = _refused(name, value, monkeypatch)

    assert told.startswith(f"{name} (from the environment) is wrong: ")
    assert "A right one: " in told
    assert "canary" not in told


def test_a_wrong_value_names_the_flag_or_the_file_it_came_from(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^PORT \(from the flag --port\) is wrong"):
        settings.load(port=99999)
    (tmp_path / ".env").write_text("PORT=99999\n")
    with pytest.raises(BadSetting, match=r"^PORT \(from \.env or the secrets directory\) is wrong"):
        settings.load()


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")

    told = _refused("LOG_LEVEL", "x", monkeypatch)

    assert len(told.splitlines()) == 2


@pytest.mark.parametrize("name", [name for name, field in Settings.model_fields.items() if field.default is None])
def test_what_may_be_unset_is_unset(name: str) -> None:
    assert getattr(settings.load(), name) is None


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_for_and_shows_a_right_value(name: str) -> None:
    field = Settings.model_fields[name]

    assert field.description
    assert field.examples


def test_outside_issuers_are_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBMILL_JWT_ISSUERS", issuers(tenant_claim="org", jwks="/etc/jobmill/jwks.json"))

    [issuer] = settings.load().jwt_issuers
    assert (issuer.issuer, issuer.jwks, issuer.tenant_claim) == (
        "https://canary.example",
        "/etc/jobmill/jwks.json",
        "org",
    )
    assert not set(issuer.algorithms) & {"none", "HS256", "HS384", "HS512"}


def test_our_own_tokens_are_of_the_public_url_or_else_of_where_we_listen() -> None:
    assert settings.load(public_url="https://jobs.example.org").issuer == "https://jobs.example.org"
    assert settings.load(host="::1", port=9000).issuer == "http://[::1]:9000"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBMILL_BOOTSTRAP_API_KEY", KEY)
    monkeypatch.setenv("JOBMILL_SECRET_KEY", "canary" * 6)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:canary@db/x")

    shown = repr(settings.load())

    assert "canary" not in shown
    assert KEY not in shown


def test_settings_cannot_be_changed() -> None:
    loaded = settings.load()

    with pytest.raises(ValueError, match="frozen"):
        loaded.port = 1


def test_faults_are_none_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().faults is None
    monkeypatch.setenv("JOBMILL_FAULTS", "worker.in_commit=stop")

    assert settings.load().faults == "worker.in_commit=stop"


def test_origins_are_told_as_a_browser_tells_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = ("https://a.example", "http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:1")
    monkeypatch.setenv("JOBMILL_CORS_ORIGINS", ", ".join(origins))

    assert settings.load().cors_origins == origins


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "a.example",
        "ftp://a.example",
        "https://",
        "https://A.example",
        "https://a.example/",
        "https://a.example/x",
        "https://a.example:",
        "https://user@a.example",
        "https://a b",
        "https://*.example",
        "https://.*",
    ],
)
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    assert "JOBMILL_CORS_ORIGINS" in _refused("JOBMILL_CORS_ORIGINS", origin, monkeypatch)
