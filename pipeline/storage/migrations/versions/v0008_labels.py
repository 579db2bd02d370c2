"""Late labels; and the confidence of a reference's images, from which accuracy is estimated."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "label",
        sa.Column("stream_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("class_index", sa.SmallInteger(), nullable=False),
        sa.Column("is_ood", sa.SmallInteger(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("is_right", sa.SmallInteger(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "offset", name=op.f("pk_label")),
    )
    op.create_index(op.f("ix_label_event_time"), "label", ["event_time"], unique=False)
    op.add_column("reference_image", sa.Column("msp", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("reference_image") as batch:
        batch.drop_column("msp")
    op.drop_table("label")
