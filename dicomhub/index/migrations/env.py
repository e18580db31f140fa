"""Alembic's entry: runs the revisions of one branch on a connection that `migrate` hands over."""

from __future__ import annotations

from alembic import context

from dicomhub.index.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,  # SQLite too, because our transactions begin where we say
)
with context.begin_transaction():
    context.run_migrations()
