"""Passwords and TLS on a real broker: what is right passes through, what is wrong ends at once with the cure."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from pipeline.errors import EnvironmentFault, OodwatchError, UsageError
from pipeline.ingest.kafka_options import read_options
from pipeline.ingest.kafka_producer import KafkaAppender
from pipeline.ingest.kafka_subscription import KafkaSubscription
from pipeline.ingest.kafka_topic import KafkaTopic
from pipeline.ingest.source import NewRecord
from tests.services.availability import unavailable
from tests.services.kafka import KafkaBroker
from tests.services.processes import free_port, wait_until

pytestmark = pytest.mark.integration

PASSWORD = "correct horse"
TOPIC = "images"


@dataclass(frozen=True)
class Secured:
    """A broker whose listeners ask for more than a connection."""

    clear: str
    sasl: str
    tls: str
    authority: Path
    stranger: Path  # another authority

    def url(self, listener: str) -> str:
        return f"kafka://{getattr(self, listener)}/{TOPIC}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None:
        unavailable("certificates for a TLS listener are made by openssl")
    home = tmp_path_factory.mktemp("secured")
    authority, keystore = certificate(home, "broker")
    stranger, _ = certificate(home, "stranger")
    sasl, tls = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    broker = KafkaBroker(home / "kafka")
    login = "org.apache.kafka.common.security"
    broker.properties |= {
        "listeners": f"{broker.properties['listeners']},SASL://{sasl},TLS://{tls}",
        "advertised.listeners": f"{broker.properties['advertised.listeners']},SASL://{sasl},TLS://{tls}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.tls.ssl.keystore.type": "PEM",
        "listener.name.tls.ssl.keystore.location": str(keystore),
    }
    for listener in ("sasl", "tls"):
        broker.properties |= {
            f"listener.name.{listener}.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required"
            f' user_watch="{PASSWORD}";',
            f"listener.name.{listener}.scram-sha-256.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
            f"listener.name.{listener}.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
            f"listener.name.{listener}.oauthbearer.sasl.jaas.config": f"{login}.oauthbearer.OAuthBearerLoginModule"
            ' required unsecuredLoginStringClaim_sub="watch";',
        }
    with broker:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.create_topics({TOPIC: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                scram(admin, mechanism)
        yield Secured(broker.bootstrap, sasl, tls, authority, stranger)


def certificate(home: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and a PEM file with its key as Kafka reads it."""
    key, cert, both = home / f"{name}.key", home / f"{name}.crt", home / f"{name}.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    both.write_text(key.read_text() + cert.read_text())
    return cert, both


def scram(admin: KafkaAdminClient, mechanism: str) -> None:
    from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

    chosen = ScramMechanism[mechanism.replace("-", "_")]
    admin.alter_user_scram_credentials([UserScramCredentialUpsertion("watch", chosen, PASSWORD.encode())])


def credentials(mechanism: str, protocol: str = "SASL_PLAINTEXT", **more: str | bool) -> dict[str, object]:
    user = {"sasl_plain_username": "watch", "sasl_plain_password": PASSWORD}
    return {"security_protocol": protocol, "sasl_mechanism": mechanism, **user, **more}


def round_trip(url: str, settings: dict[str, object]) -> int:
    """Append a record, read it as a member of a group; the number of records read."""
    options = read_options(url, settings)
    appender = KafkaAppender(options)
    (place,) = appender.append([NewRecord(b"value")])
    appender.close()
    assert place is not None
    topic, member = KafkaTopic(options), KafkaSubscription(options, group="g", max_records=10, max_bytes=1 << 20)
    found: list[bytes | None] = []

    def read() -> bool:
        seen = member.poll(0.05)
        for bounds in topic.bounds(seen.assigned) if seen.assigned else ():
            first = place[1] if bounds.partition.number == place[0] else bounds.end
            member.seek(bounds.partition, first)
        if seen.assigned:
            member.resume()
        found.extend(record.value for part in (seen.fetched or {}).values() for record in part.records)
        return bool(found)

    wait_until(read, "the record")
    member.close()
    topic.close()
    return len(found)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("listener", ["sasl", "tls"])
def test_a_password_passes_through(secured: Secured, listener: str, mechanism: str) -> None:
    protocol = {"sasl": "SASL_PLAINTEXT", "tls": "SASL_SSL"}[listener]
    trust = {"ssl_cafile": str(secured.authority)} if listener == "tls" else {}
    assert round_trip(secured.url(listener), credentials(mechanism, protocol, **trust)) == 1


def test_secrets_come_from_files(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    settings = credentials("PLAIN") | {"sasl_plain_password_file": str(tmp_path / "password")}
    del settings["sasl_plain_password"]
    assert round_trip(secured.url("sasl"), settings) == 1
    # an unsecured token of the broker's own kind: {"alg":"none"} . {"sub":"watch","iat":0,"exp":4102444800} .
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3YXRjaCIsImlhdCI6MCwiZXhwIjo0MTAyNDQ0ODAwfQ."
    (tmp_path / "token").write_text(token)
    settings = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}
    assert round_trip(secured.url("sasl"), settings | {"sasl_oauth_token_file": str(tmp_path / "token")}) == 1


WRONG: dict[str, tuple[str, dict[str, object], type[OodwatchError], str]] = {
    "wrong password": ("sasl", credentials("PLAIN", sasl_plain_password="no"), UsageError, "check sasl_mechanism"),
    "wrong SCRAM password": (
        "sasl",
        credentials("SCRAM-SHA-512", sasl_plain_password="no"),
        UsageError,
        "check sasl_mechanism",
    ),
    "no password where one is asked for": ("sasl", {}, UsageError, "set security_protocol"),
    "no TLS where it is spoken": ("tls", {}, UsageError, "set security_protocol"),
    "SASL without TLS where it is spoken": ("tls", credentials("PLAIN"), UsageError, "whether the port speaks TLS"),
    "TLS where none is spoken": ("clear", {"security_protocol": "SSL"}, UsageError, "does that port speak TLS"),
    "an authority that did not sign": (
        "tls",
        credentials("PLAIN", "SASL_SSL", ssl_cafile="STRANGER"),
        UsageError,
        "check ssl_cafile",
    ),
    "no authority": ("tls", credentials("PLAIN", "SASL_SSL"), UsageError, "check ssl_cafile"),
    "no broker at all": ("nowhere", {}, EnvironmentFault, "no broker answers"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("part", ["member", "topic", "appender"])
def test_what_is_wrong_ends_at_once_with_the_cure(secured: Secured, case: str, part: str) -> None:
    listener, settings, kind, cure = WRONG[case]
    if settings.get("ssl_cafile") == "STRANGER":
        settings = settings | {"ssl_cafile": str(secured.stranger)}
    url = f"kafka://127.0.0.1:{free_port()}/{TOPIC}" if listener == "nowhere" else secured.url(listener)
    options = read_options(url, settings)
    if part == "member" and kind is EnvironmentFault:
        member = KafkaSubscription(options, group="g", max_records=1, max_bytes=1, timeout_s=1)
        assert not member.poll(0.05).assigned  # it waits
        assert cure in str(member.trouble)
        member.close()
        return
    asks: dict[str, Callable[[], object]] = {
        "member": lambda: KafkaSubscription(options, group="g", max_records=1, max_bytes=1, timeout_s=1).poll(0.05),
        "topic": lambda: KafkaTopic(options, timeout_s=1).topic_id(),
        "appender": lambda: KafkaAppender(options, timeout_s=1),
    }
    with pytest.raises(kind, match=cure):
        asks[part]()


def test_an_unknown_topic_names_the_command_that_makes_it(secured: Secured) -> None:
    options = read_options(f"kafka://{secured.clear}/imagse", {})
    asks: list[Callable[[], object]] = [
        lambda: KafkaTopic(options).topic_id(),
        lambda: KafkaAppender(options),
        lambda: KafkaSubscription(options, group="g", max_records=1, max_bytes=1).poll(0.05),
    ]
    for ask in asks:
        with pytest.raises(UsageError, match=f"oodwatch topics ensure --source kafka://{secured.clear}/imagse"):
            ask()
