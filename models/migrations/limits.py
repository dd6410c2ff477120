"""How long a migration may wait for others; apart from `online`, which needs Alembic."""

LOCK_TIMEOUT = "500ms"
"""Within a transaction, whose every wait for a table holds up whoever comes after it."""
LONG_LOCK_TIMEOUT = "10min"
"""Outside of one, where nobody waits behind it: for the transactions that were open before."""
