"""What was told of an incident: told again is only what is worse, or goes on for long."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incident", sa.Column("told", sa.String(), nullable=True))
    op.add_column("incident", sa.Column("told_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("incident") as batch:
        batch.drop_column("told_at")
        batch.drop_column("told")
