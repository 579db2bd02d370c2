"""An index of flagged scores alone. PostgreSQL makes it under a lock that workers wait for: seconds a million rows."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_score_flagged",
        "score",
        ["event_time"],
        sqlite_where=sa.text("is_ood = 1"),
        postgresql_where=sa.text("is_ood = 1"),
    )


def downgrade() -> None:
    op.drop_index("ix_score_flagged", table_name="score")
