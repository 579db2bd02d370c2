"""When it is told that a silence ends soon, up to which day digests are told, how much a log keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_OF_STREAM = ("log_start", "retention_ms", "retention_bytes", "record_time", "caught_up_at")


def upgrade() -> None:
    op.add_column("alerting", sa.Column("digest_at", sa.BigInteger(), nullable=True))
    op.add_column("incident", sa.Column("notice_at", sa.BigInteger(), nullable=True))
    for name in _OF_STREAM:
        op.add_column("stream", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("stream") as batch:
        for name in _OF_STREAM:
            batch.drop_column(name)
    with op.batch_alter_table("incident") as batch:
        batch.drop_column("notice_at")
    with op.batch_alter_table("alerting") as batch:
        batch.drop_column("digest_at")
