"""The registry: model packages, and what was done with them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "model_package",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("repair", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("registered_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_model_package")),
    )
    op.create_index(op.f("ix_model_package_name"), "model_package", ["name"], unique=False)
    op.create_table(
        "model_package_chunk",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["hash"], ["model_package.hash"], name=op.f("fk_model_package_chunk_hash")),
        sa.PrimaryKeyConstraint("hash", "position", name=op.f("pk_model_package_chunk")),
    )
    op.create_table(
        "model_event",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("deployment_id", _KEY, nullable=True),
        sa.Column("package", sa.String(), nullable=True),
        sa.Column("reference_id", _KEY, nullable=True),
        sa.Column("of_event", sa.BigInteger(), nullable=True),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_model_event_deployment_id")),
        sa.ForeignKeyConstraint(["package"], ["model_package.hash"], name=op.f("fk_model_event_package")),
        sa.ForeignKeyConstraint(["reference_id"], ["reference.id"], name=op.f("fk_model_event_reference_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_event")),
    )
    op.create_index(op.f("ix_model_event_deployment_id_id"), "model_event", ["deployment_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_table("model_event")
    op.drop_table("model_package_chunk")
    op.drop_table("model_package")
