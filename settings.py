"""Every setting of Jobmill, read once at the edge of a process and passed down to all but the HTTP commands.

Sources, first wins: the command's flags, the environment, `.env` in the working directory, files in the
secrets directory (`JOBMILL_SECRETS_DIR`, default /run/secrets). `docs/configuration.md` is made from this file.
"""

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import setting_forms as forms
from setting_forms import DEFAULT_RATE_LIMITS, OutsideIssuer

DEFAULT_SECRETS_DIR = Path("/run/secrets")

Names = Annotated[tuple[str, ...], NoDecode]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]


class BadSetting(Exception):  # noqa: N818 - reads as the sentence it is
    """A setting is wrong; the message names it, where it came from and a right example, never its value."""


def _setting(default: Any, env: str, description: str, example: str, **limits: Any) -> Any:
    return Field(default, validation_alias=env, description=description, examples=[example], **limits)


_DAYS = {"ge": 0, "le": 36_500}


class Settings(BaseSettings):
    """The settings of one process. Unset differs from empty: an unset DATABASE_URL chooses the embedded mode."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env", env_ignore_empty=True)

    def __init__(self, **given: Any) -> None:
        # Not by `populate_by_name`, with which HOST or SECRET_KEY in the environment, another program's, would be ours.
        fields = type(self).model_fields
        super().__init__(
            **{str(fields[name].validation_alias) if name in fields else name: value for name, value in given.items()}
        )

    database_url: SecretStr | None = _setting(
        None,
        "DATABASE_URL",
        "PostgreSQL, where jobs are kept; several hosts allowed. Unset: the embedded mode on SQLite.",
        "postgresql://jobmill:secret@db1,db2/jobmill?target_session_attrs=read-write",
    )
    rabbitmq_url: SecretStr | None = _setting(
        None,
        "RABBITMQ_URL",
        "RabbitMQ, which hands jobs to workers; several comma-separated. Needed by dispatcher and worker.",
        "amqp://jobmill:secret@mq1:5672/%2F,amqp://jobmill:secret@mq2:5672/%2F",
    )
    redis_url: SecretStr | None = _setting(
        None, "REDIS_URL", "Redis, where limits are counted for all processes together.", "redis://cache:6379/0"
    )
    host: str = _setting("127.0.0.1", "JOBMILL_HOST", "The address the API listens on.", "0.0.0.0")  # noqa: S104
    port: int = _setting(8000, "PORT", "The port the API listens on.", "8000", ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "INFO", "LOG_LEVEL", "The least severe log line that is written.", "INFO"
    )
    log_format: Literal["json", "console"] = _setting(
        "json", "JOBMILL_LOG_FORMAT", "One JSON object a line for machines, or text for people.", "console"
    )
    data_dir: Path = _setting(
        Path(".jobmill"), "JOBMILL_DATA_DIR", "Where the embedded mode keeps its database and key.", "/var/lib/jobmill"
    )
    job_modules: Names = _setting(
        (), "JOBMILL_JOBS", "Modules with job types of your own, comma-separated.", "acme.jobs,acme.reports"
    )
    bootstrap_api_key: SecretStr | None = _setting(
        None,
        "JOBMILL_BOOTSTRAP_API_KEY",
        "An API key that is made an admin of tenant `default` when a process starts.",
        "jm_ops1_ followed by 43 random characters",
    )
    secret_key: SecretStr | None = _setting(
        None,
        "JOBMILL_SECRET_KEY",
        "The pepper of API key hashes and the key of cursors, at least 32 characters, the same for all processes. "
        "Unset: one that was made with the database and is kept in it.",
        "the output of: openssl rand -hex 32",
    )
    public_url: str | None = _setting(
        None,
        "JOBMILL_PUBLIC_URL",
        "The address clients know the API by: issuer and audience of its tokens, the same for all processes. "
        "Unset: http:// with JOBMILL_HOST and PORT.",
        "https://jobs.example.org",
        pattern=r"^https?://[^/\s?#@]+$",
    )
    jwt_issuers: Annotated[tuple[OutsideIssuer, ...], NoDecode] = _setting(
        (),
        "JOBMILL_JWT_ISSUERS",
        "Outside issuers whose tokens are accepted, as a JSON list; see docs/access.md.",
        '[{"issuer":"https://login.example.org","audience":"jobmill","jwks":"https://login.example.org/jwks.json",'
        '"tenant_claim":"org"}]',
    )
    require_idempotency_key: bool = _setting(
        False, "JOBMILL_REQUIRE_IDEMPOTENCY_KEY", "Refuse submissions without an Idempotency-Key.", "true"
    )
    cors_origins: Names = _setting(
        (),
        "JOBMILL_CORS_ORIGINS",
        "Origins whose pages may call the API from a browser, comma-separated; unset: none.",
        "https://console.example.org,http://localhost:3000",
    )
    metrics_port: int | None = _setting(
        None,
        "JOBMILL_METRICS_PORT",
        "Serve Prometheus metrics on this port of JOBMILL_HOST; unset: not at all.",
        "9100",
        ge=0,
        le=65535,
    )
    queue_prefix: str = _setting(
        "jobmill",
        "JOBMILL_QUEUE_PREFIX",
        "Prefix of the queues' names in RabbitMQ, so that installations can share one.",
        "jobmill-staging",
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$",
    )
    queues: Names = _setting(
        ("default", "webhooks"),
        "JOBMILL_QUEUES",
        "The queues a worker takes jobs from, comma-separated.",
        "media,default",
    )
    threads: int = _setting(8, "JOBMILL_THREADS", "Jobs a worker process runs at once.", "8", ge=1, le=256)
    processes: int = _setting(
        1, "JOBMILL_PROCESSES", "Processes of a worker, each with JOBMILL_THREADS threads.", "2", ge=1, le=64
    )
    grace_seconds: float = _setting(
        30.0, "JOBMILL_GRACE_SECONDS", "How long a stopping process waits for what it has begun.", "30", ge=0, le=3600
    )
    api_processes: int = _setting(
        1, "JOBMILL_API_PROCESSES", "Processes of the API server; each uses one core at most.", "2", ge=1, le=64
    )
    api_threads: int = _setting(
        8, "JOBMILL_API_THREADS", "Requests one API process serves at once.", "16", ge=1, le=256
    )
    rate_limits: Names = _setting(
        (),
        "JOBMILL_RATE_LIMITS",
        "Requests that each principal may make in so many seconds, by class of route, or `none` for no limit. Else: "
        + ",".join(f"{name}={limit}" for name, limit in DEFAULT_RATE_LIMITS.items()),
        "submit=6000/60,read=12000/60",
    )
    backlog_limit_seconds: float | None = _setting(
        None,
        "JOBMILL_BACKLOG_LIMIT_SECONDS",
        "Refuse submissions to a queue whose oldest due job has waited for longer; unset: never.",
        "600",
        ge=1,
    )
    trusted_proxies: Networks = _setting(
        (),
        "JOBMILL_TRUSTED_PROXIES",
        "Networks of the proxies in front of the API, comma-separated; only they are believed in "
        "X-Forwarded-For and X-Forwarded-Proto.",
        "10.0.0.0/24,fd00::/64",
    )
    api_waiting: int = _setting(
        300,
        "JOBMILL_API_WAITING",
        "Clients that one API process lets wait at once, by `Prefer: wait` or a stream; 0: none.",
        "1000",
        ge=0,
        le=5000,
    )
    webhook_allowed_networks: Networks = _setting(
        (),
        "JOBMILL_WEBHOOK_ALLOWED_NETWORKS",
        "Networks that outgoing calls may reach although they are private, comma-separated.",
        "10.20.0.0/16,fd00:12::/32",
    )
    webhook_allow_http: bool = _setting(
        False, "JOBMILL_WEBHOOK_ALLOW_HTTP", "Let outgoing calls use http besides https.", "true"
    )
    webhook_concurrency: int = _setting(
        4,
        "JOBMILL_WEBHOOK_CONCURRENCY",
        "Deliveries to one webhook receiver that are under way at once; read by the dispatcher.",
        "8",
        ge=1,
        le=1000,
    )
    retain_succeeded_days: float = _setting(
        30,
        "JOBMILL_RETAIN_SUCCEEDED_DAYS",
        "Days until a succeeded job is pruned; 0: it is kept for ever.",
        "7",
        **_DAYS,
    )
    retain_cancelled_days: float = _setting(
        30,
        "JOBMILL_RETAIN_CANCELLED_DAYS",
        "Days until a cancelled job is pruned; 0: it is kept for ever.",
        "7",
        **_DAYS,
    )
    retain_dead_days: float = _setting(
        0, "JOBMILL_RETAIN_DEAD_DAYS", "Days until a dead job is pruned; 0: it is kept for ever.", "365", **_DAYS
    )
    retain_discarded_days: float = _setting(
        90,
        "JOBMILL_RETAIN_DISCARDED_DAYS",
        "Days until a discarded job is pruned; 0: it is kept for ever.",
        "30",
        **_DAYS,
    )
    archive_dir: Path | None = _setting(
        None,
        "JOBMILL_ARCHIVE_DIR",
        "An existing folder, to which dead and discarded jobs are written before they are pruned. Unset: they just go.",
        "/var/lib/jobmill/archive",
    )

    faults: str | None = _setting(
        None,
        "JOBMILL_FAULTS",
        "For testing only: crash points at which this process shall die, freeze or fail.",
        "worker.after_handler:3=kill,prune.before_commit=raise",
    )

    _split = field_validator(
        "job_modules",
        "queues",
        "webhook_allowed_networks",
        "cors_origins",
        "trusted_proxies",
        "rate_limits",
        mode="before",
    )(forms.split)
    _json = field_validator("jwt_issuers", mode="before")(forms.json_text)
    _each_once = field_validator("jwt_issuers")(forms.each_once)
    _queue_names = field_validator("queues")(forms.queue_names)
    _origins = field_validator("cors_origins")(forms.origins)
    _rate_limits = field_validator("rate_limits")(forms.rate_limits)
    _postgresql = field_validator("database_url")(forms.postgresql)
    _amqp = field_validator("rabbitmq_url")(forms.amqp)
    _redis = field_validator("redis_url")(forms.redis)
    _key_form = field_validator("bootstrap_api_key")(forms.api_key)
    _long_secret = field_validator("secret_key")(forms.long_secret)

    @property
    def issuer(self) -> str:
        """The issuer of our own tokens, who is also their audience."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def embedded(self) -> bool:
        """Whether this installation runs in one process on SQLite."""
        return self.database_url is None

    @property
    def rabbitmq_urls(self) -> tuple[str, ...]:
        """The brokers' addresses in the order they are tried; empty in the embedded mode."""
        urls = self.rabbitmq_url.get_secret_value().split(",") if self.rabbitmq_url else ()
        return tuple(url.strip() for url in urls)


def load(**flags: object) -> Settings:
    """The settings of this process; `flags` that are None are unset. Raises BadSetting."""
    secrets = Path(os.environ.get("JOBMILL_SECRETS_DIR", DEFAULT_SECRETS_DIR))
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(_secrets_dir=secrets if secrets.is_dir() else None, **given)
    except ValidationError as error:
        raise BadSetting("\n".join(_explain(fault, given) for fault in error.errors())) from None


def _explain(fault: Any, flags: dict[str, object]) -> str:
    wanted = str(fault["loc"][0])
    for name, field in Settings.model_fields.items():
        if wanted in {name, field.validation_alias}:
            env = str(field.validation_alias)
            source = _source(name, env, flags)
            example = field.examples[0] if field.examples else ""
            return (
                f"{env} (from {source}) is wrong: {fault['msg'].removeprefix('Value error, ')}. A right one: {example}"
            )
    return f"{wanted}: {fault['msg']}"


def _source(name: str, env: str, flags: dict[str, object]) -> str:
    if name in flags:
        return f"the flag --{name.replace('_', '-')}"
    if any(known.upper() == env for known in os.environ):
        return "the environment"
    return ".env or the secrets directory"
