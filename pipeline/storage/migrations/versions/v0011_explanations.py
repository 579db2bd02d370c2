"""Explanations: which regions of a stored image account for its score."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "explanation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("stream_id", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("segmenter", sa.String(), nullable=False),
        sa.Column("picture", sa.String(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_explanation")),
        sa.UniqueConstraint(
            "stream_id",
            "offset",
            "reference_id",
            "segmenter",
            name=op.f("uq_explanation_stream_id_offset_reference_id_segmenter"),
        ),
    )
    op.create_index(op.f("ix_explanation_event_time"), "explanation", ["event_time"], unique=False)


def downgrade() -> None:
    op.drop_table("explanation")
