"""Every table, gathered for the migrations: importing this fills the metadata."""

from models import (
    audit,
    dead_groups,
    gate,
    identity,
    job,
    queue,
    redrive_letters,
    redrives,
    signing_keys,
    undeliverable,
    webhook_deliveries,
    webhook_endpoints,
    worker,
)
from models.schema import metadata

__all__ = [
    "audit",
    "dead_groups",
    "gate",
    "identity",
    "job",
    "metadata",
    "queue",
    "redrive_letters",
    "redrives",
    "signing_keys",
    "undeliverable",
    "webhook_deliveries",
    "webhook_endpoints",
    "worker",
]
