"""`kafka://host:port[,host:port]/topic` and `[source.kafka]` → the configuration of each Kafka client.

Every security and network setting of kafka-python passes through under its own name; a secret may come
from a file, as `sasl_plain_password_file`. What exactly-once rests on is fixed here and refused there.
"""

import difflib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.net.sasl.oauth import AbstractTokenProvider

from pipeline.errors import UsageError

_TOKEN_FILE = "sasl_oauth_token_file"
_PYTHON_OBJECT = "it takes an object of Python's"
#: Settings of kafka-python that are not a user's to choose, and why.
_REFUSED = {
    "bootstrap_servers": "the source's URL names the brokers",
    "group_id": "the deployment's name is the group",
    "enable_auto_commit": "the cursor in the database says what is done; commits to Kafka are advisory",
    "auto_commit_interval_ms": "nothing is committed automatically",
    "auto_offset_reset": "positions come from the database; `--from` says where a new deployment begins",
    "isolation_level": "it is read_committed: records of an aborted transaction were never sent",
    "check_crcs": "a damaged record must not be scored",
    "key_deserializer": "a deserializer that raises makes the client spin",
    "value_deserializer": "a deserializer that raises makes the client spin",
    "key_serializer": "records are bytes",
    "value_serializer": "records are bytes",
    "partition_assignment_strategy": "it is range: the worker relies on eager rebalances",
    "max_poll_records": "it follows from worker.max_batch",
    "allow_auto_create_topics": "a misspelt topic must not come into being; use `oodwatch topics ensure`",
    "exclude_internal_topics": "the source's URL names the one topic",
    "consumer_timeout_ms": "the worker does not iterate over records",
    "acks": "it is all: an acknowledged record survives a broker",
    "enable_idempotence": "it is on: a resent record must not appear twice",
    "transactional_id": "records are not sent in transactions",
    "transaction_timeout_ms": "records are not sent in transactions",
    "ssl_ciphers": "kafka-python 3.0 takes it and ignores it",
    "socks5_proxy": "it is called proxy_url now",
    "sasl_oauth_token_provider": f"write {_TOKEN_FILE}, a file that holds the token",
    **dict.fromkeys(
        (
            "default_offset_commit_callback",
            "kafka_client",
            "metric_reporters",
            "partitioner",
            "sasl_kerberos_name",
            "selector",
            "socket_options",
            "ssl_context",
        ),
        _PYTHON_OBJECT,
    ),
}
_INTEGERS = frozenset({"receive_buffer_bytes", "send_buffer_bytes"})  # their default is None
_CHOICES = {  # kafka-python takes any other protocol for PLAINTEXT
    "security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI", "AWS_MSK_IAM"),
}
_FILES = frozenset({"ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"})
_DEFAULTS: Mapping[str, Any] = {
    "client_id": "oodwatch",
    "metadata_max_age_ms": 30_000,  # how late an added partition or a topic made anew is noticed
    "reconnect_backoff_max_ms": 2_000,  # 30 s by default: a broker that is back is then left alone
}


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Which topic, on which brokers."""

    servers: tuple[str, ...]
    topic: str

    def __str__(self) -> str:
        return f"kafka://{','.join(self.servers)}/{self.topic}"


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """An address with the settings to reach it. Its text shows no secret."""

    address: KafkaAddress
    values: Mapping[str, Any] = field(repr=False)

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.address.topic

    def for_admin(self, *, timeout_s: float) -> dict[str, Any]:
        """Configuration of a client that asks about the topic, and gives up in time."""
        timeout_ms = int(timeout_s * 1000)
        return self._of(KafkaAdminClient, request_timeout_ms=timeout_ms) | {"bootstrap_timeout_ms": timeout_ms}

    def for_producer(self, *, timeout_s: float, max_record_bytes: int | None) -> dict[str, Any]:
        """Configuration of an idempotent producer whose batches fail after `timeout_s` without a broker.

        A record over the topic's limit is refused here, alone: the brokers' refusal would end the
        producer, and take with it what was sent after that record.
        """
        timeout_ms = int(timeout_s * 1000)
        patience = {
            "request_timeout_ms": timeout_ms // 2,
            "delivery_timeout_ms": timeout_ms,
            "max_block_ms": timeout_ms,
            "bootstrap_timeout_ms": timeout_ms,
            "linger_ms": 5,
        }
        config = self._of(KafkaProducer, **patience)
        if max_record_bytes is not None:
            config["max_request_size"] = min(max_record_bytes, config.get("max_request_size", max_record_bytes))
            config["batch_size"] = min(max_record_bytes, config.get("batch_size", 16_384))
        return config | {"acks": "all", "enable_idempotence": True, "allow_auto_create_topics": False}

    def for_reader(self, *, timeout_s: float) -> dict[str, Any]:
        """Configuration of a consumer without a group, which looks at single records."""
        fixed = {**_CONSUMER, "group_id": None, "group_instance_id": None, "max_poll_records": 1}
        return self._of(KafkaConsumer, bootstrap_timeout_ms=int(timeout_s * 1000)) | fixed

    def for_member(self, group: str, *, max_records: int, max_bytes: int, timeout_s: float) -> dict[str, Any]:
        """Configuration of a member of the group; static where `group_instance_id` is set."""
        session_ms = 30_000 if self.values.get("group_instance_id") else 10_000
        defaults = {
            "session_timeout_ms": session_ms,
            "max_poll_interval_ms": 60_000,
            "fetch_max_bytes": min(16 * 2**20, max_bytes),
            "max_partition_fetch_bytes": min(2 * 2**20, max_bytes),
            "bootstrap_timeout_ms": int(timeout_s * 1000),
        }
        config = self._of(KafkaConsumer, **defaults) | _CONSUMER
        config |= {"group_id": group, "max_poll_records": max_records}
        config["heartbeat_interval_ms"] = self.values.get("heartbeat_interval_ms", config["session_timeout_ms"] // 4)
        return config

    def _of(self, client: Any, **defaults: Any) -> dict[str, Any]:
        """What this kind of client understands: these defaults, the general ones, the user's own values."""
        merged = {**_DEFAULTS, **defaults, **self.values}
        known = {name: value for name, value in merged.items() if name in client.DEFAULT_CONFIG}
        return {**known, "bootstrap_servers": list(self.address.servers)}


_CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "isolation_level": "read_committed",
    "allow_auto_create_topics": False,
    "partition_assignment_strategy": (RangePartitionAssignor,),
}


def parse_kafka_url(url: str) -> KafkaAddress:
    """`kafka://host[:port][,host[:port]]/topic`; port 9092 by default. Raises UsageError for anything else."""
    match = re.fullmatch(r"kafka://([^/@?#]+)/([a-zA-Z0-9._-]{1,249})", url)
    servers = match[1].split(",") if match else []
    if match is None or match[2] in {".", ".."} or not all(map(_is_server, servers)):
        raise UsageError(f"source {url!r}: write kafka://host:port[,host:port]/topic, as kafka://kafka:9092/images")
    return KafkaAddress(tuple(server if _has_port(server) else f"{server}:9092" for server in servers), match[2])


def read_options(url: str, settings: Mapping[str, object]) -> KafkaOptions:
    """The address with checked settings; raises UsageError that names the setting and the cure."""
    values: dict[str, Any] = {}
    known = {**KafkaAdminClient.DEFAULT_CONFIG, **KafkaProducer.DEFAULT_CONFIG, **KafkaConsumer.DEFAULT_CONFIG}
    for name, value in settings.items():
        if name == _TOKEN_FILE:
            values["sasl_oauth_token_provider"] = _TokenFile(Path(str(value)))
            continue
        from_file = name.endswith("_file") and name.removesuffix("_file") in known
        target = name.removesuffix("_file") if from_file else name
        if target in _REFUSED:
            raise UsageError(f"source.kafka.{name} cannot be set: {_REFUSED[target]}")
        if target not in known:
            raise UsageError(f"source.kafka.{name}: kafka-python has no such setting{_closest(name, known)}")
        if from_file and target in settings:
            raise UsageError(f"source.kafka: {target} and {name} exclude each other; give one")
        text = _read_secret(name, Path(str(value))) if from_file else value
        values[target] = _converted(name, text, known[target], integer=target in _INTEGERS)
        _check(target, values[target])
    _check_sasl(values)
    return KafkaOptions(parse_kafka_url(url), values)


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc] # kafka-python has no types
    """A token that somebody else keeps fresh in a file; read at every connection."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.token()  # a file that is not there ends the start, not the first connection

    def token(self) -> str:
        return _read_secret(_TOKEN_FILE, self._path)


def _read_secret(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(f"source.kafka.{name} = {str(path)!r}: {said}; name a readable file") from error


def _converted(name: str, value: object, default: object, *, integer: bool) -> object:
    """Environment variables are text: numbers and switches are read as what the client's default is."""
    if name == "api_version":
        parts = str(value).split(".")
        if not all(part.isdecimal() for part in parts):
            raise UsageError(f"source.kafka.{name} = {value!r}: write it as 4.1")
        return tuple(map(int, parts))
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if integer or isinstance(default, int | float):
            return int(str(value))
    except (KeyError, ValueError) as error:
        wanted = "true or false" if isinstance(default, bool) else "a whole number"
        raise UsageError(f"source.kafka.{name} = {value!r}: must be {wanted}") from error
    return str(value)


def _check(name: str, value: object) -> None:
    """What the client would notice late or never."""
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UsageError(f"source.kafka.{name} = {value!r}: must be one of {', '.join(_CHOICES[name])}")
    if name in _FILES and not Path(str(value)).is_file():
        raise UsageError(f"source.kafka.{name} = {value!r}: there is no such file")


def _check_sasl(values: Mapping[str, object]) -> None:
    """What the client would only write to its log, and then try again for ever."""
    protocol = str(values.get("security_protocol", "PLAINTEXT"))
    mechanism = str(values.get("sasl_mechanism", ""))
    if not protocol.startswith("SASL"):
        return
    needed = {
        "": "sasl_mechanism",
        "OAUTHBEARER": "sasl_oauth_token_provider",
        **dict.fromkeys(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "sasl_plain_password"),
    }.get(mechanism)
    if needed is not None and needed not in values:
        written = _TOKEN_FILE if needed == "sasl_oauth_token_provider" else needed
        raise UsageError(f"source.kafka: {protocol} {mechanism} needs {written}".replace("  ", " "))
    library = {"GSSAPI": "gssapi", "AWS_MSK_IAM": "botocore"}.get(mechanism)
    if library is not None and importlib.util.find_spec(library) is None:
        raise UsageError(f"source.kafka.sasl_mechanism = {mechanism!r}: needs the Python package {library}; install it")


def _closest(name: str, known: Mapping[str, object]) -> str:
    allowed = [candidate for candidate in (*known, _TOKEN_FILE) if candidate not in _REFUSED]
    found = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {found[0]}?" if found else "; see kafka-python's KafkaConsumer for all of them"


def _has_port(server: str) -> bool:
    return re.search(r":\d+$", server) is not None and not server.endswith("]")


def _is_server(server: str) -> bool:
    return re.fullmatch(r"([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", server) is not None
