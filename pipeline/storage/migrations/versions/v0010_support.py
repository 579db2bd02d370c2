"""Support: how well the reference's images support each scored image, and the sums of it in ticks."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("score", sa.Column("support", sa.Double(), nullable=True))
    op.add_column("tick", sa.Column("support_n", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("tick", sa.Column("support_sum", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("support_sum", "support_n"):
        op.drop_column("tick", column)
    op.drop_column("score", "support")
