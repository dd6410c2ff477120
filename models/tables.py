"""Every table, gathered for the migrations: importing this fills the metadata."""

from models import identity, job, worker
from models.schema import metadata

__all__ = ["identity", "job", "metadata", "worker"]
