"""Every table, gathered for the migrations: importing this fills the metadata."""

from models import audit, dead_groups, identity, job, signing_keys, worker
from models.schema import metadata

__all__ = ["audit", "dead_groups", "identity", "job", "metadata", "signing_keys", "worker"]
