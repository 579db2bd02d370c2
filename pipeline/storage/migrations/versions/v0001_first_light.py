"""First light: references, streams, scores, dead letters, roll-up parts, samples."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Days are counted from 1970-01-01, UTC. SECURITY DEFINER: only an owner may add and drop partitions, and
# a worker should own nothing. CREATE TABLE + ATTACH takes a lock that neither readers nor writers of
# `score` wait for, unlike CREATE TABLE ... PARTITION OF; taking it first makes two workers that want the
# same day wait for one another. DROP has to lock everybody out, so it gives up soon.
CREATE_DAYS = """
CREATE FUNCTION create_score_days(days integer[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    day integer;
    name text;
    made integer := 0;
BEGIN
    FOREACH day IN ARRAY days LOOP
        name := 'score_' || to_char(date '1970-01-01' + day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        LOCK TABLE score IN SHARE UPDATE EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE score INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE score ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                       name, day * 86400000000, (day + 1) * 86400000000);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$
"""
DROP_DAY = """
CREATE FUNCTION drop_score_day(before integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    horizon text := 'score_' || to_char(date '1970-01-01' + before, 'YYYYMMDD');
    name text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON oid = inhrelid
                   WHERE inhparent = 'score'::regclass AND relname < horizon) THEN
        RETURN 0;
    END IF;
    LOCK TABLE ONLY score IN ACCESS EXCLUSIVE MODE;
    SELECT min(relname) INTO name FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = 'score'::regclass AND relname < horizon;
    IF name IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN 1;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("stream_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("record_time", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.String(), nullable=True),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("segment", sa.String(), nullable=True),
        sa.Column("value_size", sa.BigInteger(), nullable=True),
        sa.Column("value_sha256", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("stream_id", "offset", name=op.f("pk_dead_letter")),
    )
    op.create_index(op.f("ix_dead_letter_at"), "dead_letter", ["at"], unique=False)
    op.create_table(
        "reference",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("decoder", sa.String(), nullable=False),
        sa.Column("dtype", sa.String(), nullable=False),
        sa.Column("score_name", sa.String(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("target_fpr", sa.Double(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("p0_low", sa.Double(), nullable=False),
        sa.Column("p0_high", sa.Double(), nullable=False),
        sa.Column("representative", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reference")),
        sa.UniqueConstraint("model_name", "version", name=op.f("uq_reference_model_name_version")),
        sa.UniqueConstraint("name", name=op.f("uq_reference_name")),
    )
    op.create_table(
        "roll_up_part",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=True),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roll_up_part")),
    )
    op.create_index(op.f("ix_roll_up_part_deployment_id_tick"), "roll_up_part", ["deployment_id", "tick"], unique=False)
    op.create_table(
        "sample",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("stream_id", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=True),
        sa.Column("features", sa.LargeBinary(), nullable=True),
        sa.Column("logits", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sample")),
        sa.UniqueConstraint("stream_id", "offset", "kind", name=op.f("uq_sample_stream_id_offset_kind")),
    )
    op.create_index(op.f("ix_sample_event_time"), "sample", ["event_time"], unique=False)
    op.create_index(op.f("ix_sample_segment_id_tick_kind"), "sample", ["segment_id", "tick", "kind"], unique=False)
    op.create_table(
        "score",
        sa.Column("stream_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("clock", sa.SmallInteger(), nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=True),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("value_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("class_index", sa.SmallInteger(), nullable=False),
        sa.Column("energy", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("msp", sa.Double(), nullable=False),
        sa.Column("is_ood", sa.SmallInteger(), nullable=False),
        sa.Column("repeat", sa.SmallInteger(), nullable=False),
        sa.Column("drill", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "offset", "event_time", name=op.f("pk_score")),
        postgresql_partition_by="RANGE (event_time)",
    )
    op.create_index(op.f("ix_score_event_time"), "score", ["event_time"], unique=False)
    op.create_table(
        "deployment",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("reference_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["reference_id"], ["reference.id"], name=op.f("fk_deployment_reference_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
        sa.UniqueConstraint("name", name=op.f("uq_deployment_name")),
    )
    op.create_table(
        "reference_image",
        sa.Column("reference_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("energy", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("class_index", sa.SmallInteger(), nullable=False),
        sa.Column("projected", sa.LargeBinary(), nullable=False),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["reference_id"], ["reference.id"], name=op.f("fk_reference_image_reference_id")),
        sa.PrimaryKeyConstraint("reference_id", "position", name=op.f("pk_reference_image")),
    )
    op.create_table(
        "segment",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_segment_deployment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segment")),
        sa.UniqueConstraint("deployment_id", "name", name=op.f("uq_segment_deployment_id_name")),
    )
    op.create_table(
        "stream",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("topic_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("start_offset", sa.BigInteger(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("log_end", sa.BigInteger(), nullable=False),
        sa.Column("scored", sa.BigInteger(), nullable=False),
        sa.Column("dead", sa.BigInteger(), nullable=False),
        sa.Column("expired", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("holes", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("newest_event_time", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name=op.f("fk_stream_deployment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stream")),
        sa.UniqueConstraint(
            "deployment_id",
            "topic",
            "topic_id",
            "partition",
            name=op.f("uq_stream_deployment_id_topic_topic_id_partition"),
        ),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "stream_gap",
        sa.Column("stream_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("from_offset", sa.BigInteger(), nullable=False),
        sa.Column("to_offset", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["stream_id"], ["stream.id"], name=op.f("fk_stream_gap_stream_id")),
        sa.PrimaryKeyConstraint("stream_id", "from_offset", name=op.f("pk_stream_gap")),
    )
    if op.get_bind().dialect.name == "postgresql":
        schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
        op.execute(CREATE_DAYS.format(schema=schema))
        op.execute(DROP_DAY.format(schema=schema))
        op.execute("REVOKE EXECUTE ON FUNCTION create_score_days, drop_score_day FROM PUBLIC")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION create_score_days, drop_score_day")
    op.drop_table("stream_gap")
    op.drop_table("stream")
    op.drop_table("segment")
    op.drop_table("reference_image")
    op.drop_table("deployment")
    op.drop_index(op.f("ix_score_event_time"), table_name="score")
    op.drop_table("score")
    op.drop_index(op.f("ix_sample_segment_id_tick_kind"), table_name="sample")
    op.drop_index(op.f("ix_sample_event_time"), table_name="sample")
    op.drop_table("sample")
    op.drop_index(op.f("ix_roll_up_part_deployment_id_tick"), table_name="roll_up_part")
    op.drop_table("roll_up_part")
    op.drop_table("reference")
    op.drop_index(op.f("ix_dead_letter_at"), table_name="dead_letter")
    op.drop_table("dead_letter")
