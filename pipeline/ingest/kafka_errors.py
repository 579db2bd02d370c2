"""What a Kafka client raised → one line: what to mend, or that it may pass by itself."""

import socket
import ssl
import struct

from kafka import errors

from pipeline.errors import EnvironmentFault, OodwatchError, UsageError
from pipeline.ingest.kafka_options import KafkaOptions

_PATIENCE_S = 3.0


def answer_to(error: Exception, options: KafkaOptions) -> OodwatchError:
    """UsageError where a person must change something, EnvironmentFault where waiting may help."""
    where, said = options.address, _said(error)
    match error:
        case errors.SaslAuthenticationFailedError() | errors.UnsupportedSaslMechanismError():
            cure = "check sasl_mechanism and the credentials under [source.kafka]"
        case errors.TopicAuthorizationFailedError() | errors.GroupAuthorizationFailedError():
            cure = "grant this user Read and Describe on the topic and Read on the deployment's group"
        case errors.AuthorizationError():
            cure = "grant this user what it was refused"
        case errors.InvalidSessionTimeoutError():
            cure = "session_timeout_ms must lie between the broker's group.min and group.max.session.timeout.ms"
        case errors.FencedInstanceIdError():
            name = options.values.get("group_instance_id")
            return UsageError(
                f"{where}: another process has joined as group_instance_id {name!r} and this one was shut out;"
                " give every process a name of its own"
            )
        case errors.UnsupportedCodecError():
            cure = "a producer compresses so; install kafka-python[lz4,zstd,snappy], then start again: nothing is lost"
        case errors.IncompatibleBrokerVersion() | errors.UnsupportedVersionError():
            cure = "a broker of Kafka 2.1 or newer is needed"
        case errors.InvalidTopicError() | errors.InvalidGroupIdError() | errors.KafkaConfigurationError():
            cure = "change the source's URL or [source.kafka]"
        case errors.KafkaTimeoutError() if "bootstrap" in said:
            return _diagnosed(options)
        case ValueError():
            cure = "check [source.kafka]"
        case _:
            return EnvironmentFault(f"{where}: {said}")
    return UsageError(f"{where}: {said}; {cure}")


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if name in text else f"{name}: {text}".rstrip(": ")


def _diagnosed(options: KafkaOptions) -> OodwatchError:
    """Why no broker lets us in: the client itself only says that time is up."""
    found = [_knock(server, options) for server in options.address.servers]
    wrong = next((answer for answer in found if isinstance(answer, UsageError)), found[0])
    return type(wrong)(f"{options.address}: {wrong}")


def _knock(server: str, options: KafkaOptions) -> OodwatchError:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as connection:
            connection.settimeout(_PATIENCE_S)
            if _protocol(options) in {"SSL", "SASL_SSL"}:
                with _tls(options).wrap_socket(connection, server_hostname=host) as secured:
                    return _judge(secured, server, options)
            return _judge(connection, server, options)
    except ssl.SSLCertVerificationError as error:
        return UsageError(f"TLS to {server}: {error.verify_message}; check ssl_cafile and ssl_check_hostname")
    except ssl.SSLError as error:
        return UsageError(
            f"TLS to {server}: {error.reason or error}; does that port speak TLS, and are ssl_certfile and ssl_keyfile"
            " what it asks for?"
        )
    except TimeoutError:
        return EnvironmentFault(f"{server} takes connections, but does not answer")
    except OSError as error:
        return EnvironmentFault(
            f"no broker answers at {server} ({error.strerror or error}); start it, or check the URL"
        )


def _judge(connection: socket.socket, server: str, options: KafkaOptions) -> OodwatchError:
    """Ask for metadata without a login: a listener that wants one hangs up, and so does one that wants TLS."""
    request = struct.pack(">hhih", 3, 5, 1, -1) + struct.pack(">ib", 0, 0)  # Metadata v5 of no topic
    try:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answered = connection.recv(8)[4:] == struct.pack(">i", 1)
    except (ConnectionError, ssl.SSLEOFError):
        answered = False
    if answered:
        return EnvironmentFault(f"{server} answers, but the cluster is not ready")
    if _protocol(options).startswith("SASL"):
        cure = "check sasl_mechanism and the credentials, and whether the port speaks TLS (SASL_SSL)"
        return UsageError(f"{server} does not accept the login; {cure}")
    cure = "set security_protocol under [source.kafka]: SSL, SASL_PLAINTEXT or SASL_SSL"
    return UsageError(f"{server} hangs up on a client that does not log in; {cure}")


def _tls(options: KafkaOptions) -> ssl.SSLContext:
    values = options.values
    context = ssl.create_default_context(cafile=values.get("ssl_cafile"))
    context.check_hostname = values.get("ssl_check_hostname", True)
    if values.get("ssl_certfile"):
        context.load_cert_chain(values["ssl_certfile"], values.get("ssl_keyfile"), values.get("ssl_password"))
    return context


def _protocol(options: KafkaOptions) -> str:
    return str(options.values.get("security_protocol", "PLAINTEXT"))
