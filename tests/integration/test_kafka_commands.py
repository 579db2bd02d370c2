"""The commands on a Kafka topic, as a person types them."""

import csv
import hashlib
import json
import uuid
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from sqlalchemy import create_engine, text

from tests.integration.test_commands import RESNET20, failure, lines, run
from tests.services.kafka import KafkaBroker, MakeTopic, NamedBroker
from tests.services.processes import free_port
from tests.shared_data import cifar
from tests.tiny import make_deployment, png

pytestmark = pytest.mark.integration

Broker = KafkaBroker | NamedBroker


def test_a_topic_is_made_once_and_then_only_compared(kafka: Broker) -> None:
    source = f"kafka://{kafka.bootstrap}/made-{uuid.uuid4().hex[:8]}"
    ensure = ("topics", "ensure", "--source", source)
    (made,) = lines(run(*ensure, "--partitions", 6, "--retention-hours", 12, "--json"))
    expected = {"created": True, "partitions": 6, "replication": 1, "retention_hours": 12.0, "differences": []}
    assert {name: made[name] for name in expected} == expected
    again = run(*ensure, "--partitions", 6)
    assert (again.exit_code, again.stdout) == (
        0,
        f"{made['topic']}: exists, 6 partitions, 1 copies, records are kept for 12 h\n",
    )
    other = run(*ensure, "--partitions", 8, "--replication", 3, "--retention-hours", 1, "--json")
    assert other.exit_code == 1
    (state,) = lines(other)
    assert (state["created"], state["topic_id"], state["partitions"]) == (False, made["topic_id"], 6)
    differences = state["differences"]
    assert isinstance(differences, list)
    assert [str(text).split(";")[0] for text in differences] == [
        "partitions: 6, asked for 8",
        "replication: 1, asked for 3",
        "retention.ms: 43200000, asked for 3600000",
    ]
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        admin.delete_topics([made["topic"]])


def test_a_compacted_topic_is_no_place_for_images(kafka: Broker, kafka_topic: MakeTopic) -> None:
    result = run("topics", "ensure", "--source", f"kafka://{kafka.bootstrap}/{kafka_topic(cleanup_policy='compact')}")
    assert result.exit_code == 1
    assert "images that share a key would be dropped unread" in result.stderr


def test_more_copies_than_brokers_are_refused(kafka: Broker) -> None:
    source = f"kafka://{kafka.bootstrap}/never-{uuid.uuid4().hex[:8]}"
    assert "InvalidReplicationFactorError" in str(
        failure(run("topics", "ensure", "--source", source, "--replication", 9))
    )


def test_the_evaluation_images_pass_through_kafka_as_published(kafka: Broker, tmp_path: Path) -> None:
    home = cifar()
    source = f"kafka://{kafka.bootstrap}/cifar-{uuid.uuid4().hex[:8]}"
    database = f"sqlite:///{tmp_path / 'o.db'}"
    classes = json.loads((home / "expected.json").read_text())["classes"]
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    model = tmp_path / "resnet20"
    made = run(
        *("package", model, "--architecture", f"{RESNET20}:resnet20", "--head", "linear"),
        *("--weights", home / "weights" / "resnet20-12fca82f.th"),
        *("--classes", tmp_path / "classes.txt", "--input-size", 32),
        *("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"),
    )
    assert made.exit_code == 0, made.output
    options = ("--model", model, "--database", database, "--json")
    run("calibrate", home / "id", *options)
    sets = [home / name for name in ("id", "ood", "drift")]
    assert run("topics", "ensure", "--source", source, "--partitions", 3).exit_code == 0
    (sent,) = lines(run("produce", *sets, "--source", source, "--json"))
    assert (sent["sent"], sent["failed"]) == (4200, 0)
    (summary,) = lines(run("worker", "--source", source, *options, "--drain"))
    assert (summary["scored"], summary["dead_letters"]) == (4200, 0)
    ledger = lines(run("ledger", "--database", database, "--source", source, "--json"))
    assert sum(int(str(line["produced"])) for line in ledger) == 4200
    assert {(line["waiting"], line["expired"], line["skipped"], line["holes"]) for line in ledger} == {(0, 0, 0, 0)}
    engine = create_engine(database)
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT value_sha256, energy FROM score")).all()
    engine.dispose()
    with (home / "scores.csv").open(newline="") as published:
        expected = {
            hashlib.sha256((home / row["file"]).read_bytes()).digest(): float(row["energy"])
            for row in csv.DictReader(published)
        }
    assert len(rows) == 4200
    for value_sha256, energy in rows:
        assert energy == pytest.approx(expected[bytes(value_sha256)], abs=1e-4)


def test_a_record_over_the_topics_limit_is_named_and_the_others_are_sent(
    kafka: Broker, kafka_topic: MakeTopic, tmp_path: Path
) -> None:
    source = f"kafka://{kafka.bootstrap}/{kafka_topic(max_message_bytes=20_000)}"
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02d}.png").write_bytes(png(i))
    (folder / "10-large.png").write_bytes(b"\x89PNG" + bytes(50_000))
    result = run("produce", folder, "--source", source, "--json")
    assert result.exit_code == 1
    ((sent),) = lines(result)
    assert (sent["sent"], sent["failed"]) == (20, 1)
    assert "10-large.png: over the topic's limit of 20000 bytes; raise its max.message.bytes" in result.stderr


def test_one_shot_commands_give_up_on_brokers_that_do_not_answer(tmp_path: Path) -> None:
    source = f"kafka://127.0.0.1:{free_port()}/images"
    (tmp_path / "a.png").write_bytes(png(1))
    for command in (("produce", tmp_path / "a.png"), ("topics", "ensure")):
        error = failure(run(*command, "--source", source, "--timeout", 0.5))
        assert (error.exit_code, "no broker answers at" in str(error)) == (4, True)
    database = ("--database", f"sqlite:///{tmp_path / 'o.db'}")
    assert run("migrate", *database).exit_code == 0
    ledger = run("ledger", *database, "--source", source, "--timeout", 0.5)
    assert ledger.exit_code == 0
    assert "the log does not answer" in ledger.stderr


def test_options_of_a_spool_are_refused_for_a_topic(kafka: Broker, kafka_topic: MakeTopic, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    produce = ("produce", tmp_path / "a.png", "--source", f"kafka://{kafka.bootstrap}/{kafka_topic()}")
    assert "oodwatch topics ensure --partitions N" in str(failure(run(*produce, "--partitions", 3)))
    assert "a Kafka topic has its own retention" in str(failure(run(*produce, "--keep-hours", 3)))


def test_forget_says_that_kafka_keeps_its_copy(kafka: Broker, kafka_topic: MakeTopic, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    source = f"kafka://{kafka.bootstrap}/{kafka_topic()}"
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(i))
    options = ("--source", source, "--database", deployment.database, "--json")
    assert run("produce", folder, "--source", source).exit_code == 0
    assert run("worker", *options, "--model", deployment.model, "--drain").exit_code == 0
    (erased,) = lines(run("forget", "--id", "1.png", *options, "--yes"))
    assert (erased["log_values"], erased["scores"]) == (0, 1)
    copies = erased["copies_remain"]
    assert isinstance(copies, list)
    assert "stay until the topic's retention deletes them" in copies[0]
