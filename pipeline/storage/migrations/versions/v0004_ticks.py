"""Ticks: roll-ups folded from parts, how far the monitor is, what its detector knows and has said."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "detector_checkpoint",
        sa.Column("deployment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "reference_id", "position", name=op.f("pk_detector_checkpoint")),
    )
    op.create_table(
        "detector_state",
        sa.Column("deployment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("replay_floor", sa.BigInteger(), nullable=False),
        sa.Column("revised_from", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "reference_id", name=op.f("pk_detector_state")),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "tick",
        sa.Column("deployment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("minutes", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("segment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("flags", sa.BigInteger(), nullable=False),
        sa.Column("repeats", sa.BigInteger(), nullable=False),
        sa.Column("late_clocks", sa.BigInteger(), nullable=False),
        sa.Column("score_sum", sa.Double(), nullable=False),
        sa.Column("score_squares", sa.Double(), nullable=False),
        sa.Column("energy_sum", sa.Double(), nullable=False),
        sa.Column("histogram", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "deployment_id", "reference_id", "minutes", "segment_id", "start", name=op.f("pk_tick")
        ),
    )
    op.create_index(
        op.f("ix_tick_deployment_id_minutes_start"), "tick", ["deployment_id", "minutes", "start"], unique=False
    )
    op.create_table(
        "transition",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("k", sa.Double(), nullable=True),
        sa.Column("n", sa.Double(), nullable=True),
        sa.Column("leading", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("log_evidence", sa.Double(), nullable=False),
        sa.Column("onset", sa.BigInteger(), nullable=True),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transition")),
    )
    op.create_index(op.f("ix_transition_deployment_id_tick"), "transition", ["deployment_id", "tick"], unique=False)
    op.create_table(
        "verdict",
        sa.Column("deployment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("log_evidence", sa.Double(), nullable=False),
        sa.Column("onset", sa.BigInteger(), nullable=True),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("deployment_id", "reference_id", "stream", name=op.f("pk_verdict")),
    )
    op.create_table(
        "monitor",
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("evaluated_until", sa.BigInteger(), nullable=True),
        sa.Column("watermark", sa.BigInteger(), nullable=True),
        sa.Column("fed_at", sa.BigInteger(), nullable=True),
        sa.Column("folded_parts", sa.BigInteger(), nullable=False),
        sa.Column("late_parts", sa.BigInteger(), nullable=False),
        sa.Column("late_images", sa.BigInteger(), nullable=False),
        sa.Column("too_late_images", sa.BigInteger(), nullable=False),
        sa.Column("overflow_parts", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_monitor_deployment_id")),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_monitor")),
    )
    op.create_table(
        "tick_level",
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("minutes", sa.SmallInteger(), nullable=False),
        sa.Column("made_until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_tick_level_deployment_id")),
        sa.PrimaryKeyConstraint("deployment_id", "minutes", name=op.f("pk_tick_level")),
    )


def downgrade() -> None:
    op.drop_table("tick_level")
    op.drop_table("monitor")
    op.drop_table("verdict")
    op.drop_index(op.f("ix_transition_deployment_id_tick"), table_name="transition")
    op.drop_table("transition")
    op.drop_index(op.f("ix_tick_deployment_id_minutes_start"), table_name="tick")
    op.drop_table("tick")
    op.drop_table("lease")
    op.drop_table("detector_state")
    op.drop_table("detector_checkpoint")
