"""Alembic's entry: run the migrations on the connection that models.migrate opened."""

from alembic import context

from models.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    user_module_prefix="dialect.",
    # What a revision locks is let go before the next one waits for anything. On SQLite all of them are the one
    # transaction that models.migrate has begun.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
