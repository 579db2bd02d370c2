"""Alembic's entry: migrate over the connection that `run` hands over."""

from alembic import context

from pipeline.storage.partitions import is_no_partition
from pipeline.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    include_object=is_no_partition,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
