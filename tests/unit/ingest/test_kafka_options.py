from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from pipeline.errors import UsageError
from pipeline.ingest.kafka_options import KafkaAddress, KafkaOptions, parse_kafka_url, read_options

URL = "kafka://a:9092/images"


@pytest.mark.parametrize(
    ("url", "servers", "topic"),
    [
        ("kafka://kafka:9092/images", ("kafka:9092",), "images"),
        ("kafka://kafka/images", ("kafka:9092",), "images"),
        ("kafka://k-1:19092,k-2.example.org/a.b_c-1", ("k-1:19092", "k-2.example.org:9092"), "a.b_c-1"),
        ("kafka://[::1]:9092,[fe80::1]/t", ("[::1]:9092", "[fe80::1]:9092"), "t"),
    ],
)
def test_a_url_names_brokers_and_topic(url: str, servers: tuple[str, ...], topic: str) -> None:
    assert parse_kafka_url(url) == KafkaAddress(servers, topic)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka:///images",
        "kafka://host:9092",
        "kafka://host:9092/",
        "kafka://host:9092/a/b",
        "kafka://host:9092/two words",
        "kafka://host:port/images",
        "kafka://host:9092,/images",
        "kafka://user:secret@host:9092/images",
        "kafka://host:9092/images?acks=0",
        "kafka://host:9092/..",
        f"kafka://host/{'x' * 250}",
        "kafka:host/images",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"write kafka://host:port\[,host:port\]/topic"):
        parse_kafka_url(url)


def test_exactly_once_rests_on_settings_that_nobody_can_change() -> None:
    member = read_options(URL, {}).for_member("g", max_records=7, max_bytes=1 << 30, timeout_s=3)
    fixed = {
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "group_id": "g",
        "max_poll_records": 7,
        "bootstrap_servers": ["a:9092"],
        "fetch_max_bytes": 16 * 2**20,
        "bootstrap_timeout_ms": 3000,
    }
    assert {name: member[name] for name in fixed} == fixed
    assert not {"key_deserializer", "value_deserializer"} & member.keys()
    producer = read_options(URL, {}).for_producer(timeout_s=3, max_record_bytes=9_000)
    sizes = producer["max_request_size"], producer["batch_size"]
    assert (producer["acks"], producer["enable_idempotence"], *sizes) == ("all", True, 9_000, 9_000)


@pytest.mark.parametrize(
    "name",
    [
        "enable_auto_commit",
        "auto_offset_reset",
        "isolation_level",
        "group_id",
        "value_deserializer",
        "check_crcs",
        "acks",
        "bootstrap_servers",
        "partition_assignment_strategy",
        "ssl_context",
        "ssl_ciphers",
    ],
)
def test_what_exactly_once_rests_on_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(UsageError, match=rf"source.kafka.{name} cannot be set: .+"):
        read_options(URL, {name: "x"})


def test_every_setting_of_the_clients_is_passed_on_or_refused(tmp_path: Path) -> None:
    """A new release of kafka-python with new settings is noticed here."""
    everything = KafkaAdminClient.DEFAULT_CONFIG | KafkaProducer.DEFAULT_CONFIG | KafkaConsumer.DEFAULT_CONFIG
    (tmp_path / "file").touch()
    special = {"security_protocol": "SSL", "sasl_mechanism": "PLAIN", "api_version": "4.1"}
    files = dict.fromkeys(("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"), str(tmp_path / "file"))
    values: dict[str, Any] = {}
    refused = []
    for name, default in everything.items():
        number = name.endswith("_bytes") or isinstance(default, int | float)
        value = {**special, **files}.get(name, True if isinstance(default, bool) else 12_345 if number else "text")
        try:
            values |= read_options(URL, {name: value}).values
        except UsageError as error:
            refused.append(str(error))
    assert all("cannot be set" in why for why in refused)
    assert (len(values), len(refused)) == (48, 31)
    options = KafkaOptions(KafkaAddress(("a:9092",), "images"), values)
    member = options.for_member("g", max_records=1, max_bytes=1, timeout_s=1)
    assert {name: member.get(name) for name in values if name in KafkaConsumer.DEFAULT_CONFIG} == {
        name: value for name, value in values.items() if name in KafkaConsumer.DEFAULT_CONFIG
    }


def test_an_unknown_name_is_refused_with_the_closest() -> None:
    with pytest.raises(UsageError, match="no such setting; did you mean sasl_mechanism"):
        read_options(URL, {"sasl_mechanisms": "PLAIN"})
    with pytest.raises(UsageError, match="no such setting; did you mean security_protocol"):
        read_options(URL, {"security.protocol": "SSL"})
    with pytest.raises(UsageError, match="see kafka-python's KafkaConsumer"):
        read_options(URL, {"zzz": 1})


def test_text_from_the_environment_becomes_what_the_client_wants() -> None:
    given = {"session_timeout_ms": "8000", "ssl_check_hostname": "false", "api_version": "4.1", "client_id": "7"}
    assert read_options(URL, given).values == {
        "session_timeout_ms": 8000,
        "ssl_check_hostname": False,
        "api_version": (4, 1),
        "client_id": "7",
    }
    for name, value in {"session_timeout_ms": "8 s", "ssl_check_hostname": "maybe", "api_version": "new"}.items():
        with pytest.raises(UsageError, match=rf"source.kafka.{name} = '{value}'"):
            read_options(URL, {name: value})


def test_a_secret_comes_from_a_file_and_shows_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\n")
    given = {"sasl_plain_password_file": str(tmp_path / "secret"), "sasl_plain_username": "u"}
    options = read_options(URL, given)
    assert options.values["sasl_plain_password"] == "pass word"
    assert "pass word" not in repr(options)
    with pytest.raises(UsageError, match="exclude each other"):
        read_options(URL, given | {"sasl_plain_password": "x"})
    with pytest.raises(UsageError, match="No such file or directory; name a readable file"):
        read_options(URL, {"ssl_password_file": str(tmp_path / "none")})


def test_a_token_is_read_at_every_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    given = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_file": str(file)}
    provider = read_options(URL, given).values["sasl_oauth_token_provider"]
    assert provider.token() == "first"
    file.write_text("second\n")
    assert provider.token() == "second"
    with pytest.raises(UsageError, match="sasl_oauth_token_file"):
        read_options(URL, given | {"sasl_oauth_token_file": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"security_protocol": "TLS"}, "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"sasl_mechanism": "plain"}, "must be one of PLAIN, SCRAM"),
        ({"security_protocol": "SASL_SSL"}, "SASL_SSL needs sasl_mechanism"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "PLAIN needs sasl_plain_password"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "needs sasl_oauth_token_file"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "needs the Python package gssapi"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "AWS_MSK_IAM"}, "needs the Python package botocore"),
        ({"ssl_cafile": "/nowhere/ca.pem"}, "there is no such file"),
    ],
)
def test_what_the_client_would_notice_late_or_never_is_said_at_once(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_options(URL, settings)


def test_a_name_of_its_own_makes_a_member_static_with_a_longer_session() -> None:
    def session(**settings: object) -> tuple[int, int]:
        member = read_options(URL, settings).for_member("g", max_records=1, max_bytes=1, timeout_s=1)
        return member["session_timeout_ms"], member["heartbeat_interval_ms"]

    assert session() == (10_000, 2_500)
    assert session(group_instance_id="gpu-7") == (30_000, 7_500)
    assert session(session_timeout_ms=6_000) == (6_000, 1_500)
    assert session(session_timeout_ms=6_000, heartbeat_interval_ms=300) == (6_000, 300)
