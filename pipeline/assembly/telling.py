"""Composition: settings → channels. Files of keys are read here, once; what is wrong is refused without showing it."""

import ipaddress
import logging
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from pipeline.alerts.hiding import hider, secrets_in
from pipeline.errors import UsageError
from pipeline.senders.alertmanager import PATH, Alertmanager
from pipeline.senders.exchange import exchange
from pipeline.senders.pagerduty import URL, PagerDuty
from pipeline.senders.sender import Channel, Renewer, Sender
from pipeline.senders.stdout import Stdout
from pipeline.senders.webhook import Webhook
from pipeline.settings import ChannelSettings, DeadmanSettings, Settings
from pipeline.stages.upkeep import Deadman

logger = logging.getLogger(__name__)

#: Of (address, key): what a channel of a kind must have, and what it may have.
_NEEDS = {"webhook": {"url"}, "alertmanager": {"url"}, "pagerduty": {"secret"}, "apprise": {"url"}, "stdout": set()}
_MAY_HAVE = {"webhook": {"secret"}, "pagerduty": {"url"}}
_NO_DIGEST = ("pagerduty", "alertmanager")  # they take what begins and ends
_FORMS = {"url": "url or url_file", "secret": "secret_file"}
_MARGIN_S = 60  # of a claim, beyond the time of one exchange: Apprise keeps times of its own


def make_channels(settings: Settings, clock: Callable[[], datetime]) -> tuple[Channel, ...]:
    """All channels of the settings, in their order. Raises UsageError that names the channel and the cure."""
    names = [channel.name for channel in settings.channels]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"setting channels: two are named {name!r}; give each a name of its own")
    _check_digest(settings)
    return tuple(_channel(channel, clock, settings.clock.lasting) for channel in settings.channels)


def _check_digest(settings: Settings) -> None:
    asking = [channel for channel in settings.channels if channel.digest]
    for channel in asking:
        if channel.kind in _NO_DIGEST:
            raise UsageError(
                f"setting channels: {channel.name} ({channel.kind}) can take no digest; leave digest out there"
            )
    at = settings.alerts.digest
    if settings.alerts.digest_at is not None and not asking:
        raise UsageError(f"setting alerts.digest = {at!r}: no channel asks for it; write digest = true to one or more")
    if settings.alerts.digest_at is None and asking:
        raise UsageError(
            f"setting channels: {asking[0].name} has digest = true, and alerts.digest is {at!r}; write a time as"
            ' "08:00" (UTC) there'
        )


def server_of(settings: ChannelSettings) -> tuple[str, int] | None:
    """Host and port that a channel speaks to; None: it speaks to nobody, or Apprise alone knows. Raises UsageError."""
    what = f"setting channels: {settings.name} ({settings.kind})"
    url = _read(what, "url", settings.url, settings.url_file) or (URL if settings.kind == "pagerduty" else "")
    if not url or settings.kind == "apprise":
        return None
    _check_http(what, url)
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def make_deadman(settings: DeadmanSettings, clock: Callable[[], datetime]) -> Deadman | None:
    """Whom to ping; None where nobody is named. Raises UsageError."""
    address = _read("setting deadman", "url", settings.url, settings.url_file)
    if address is None:
        return None
    url = address  # not None, also for what is called later
    _check_http("setting deadman", url)

    def ping() -> None:
        exchange("GET", url, now=clock(), timeout_s=min(10.0, settings.interval_seconds))

    return Deadman(timedelta(seconds=settings.interval_seconds), ping, hider(secrets_in(url)))


def _channel(
    settings: ChannelSettings, clock: Callable[[], datetime], lasting: Callable[[float], timedelta]
) -> Channel:
    kind = settings.kind
    what = f"setting channels: {settings.name} ({kind})"
    url = _read(what, "url", settings.url, settings.url_file)
    secret = _read(what, "secret", None, settings.secret_file)
    for part, given in (("url", url), ("secret", secret)):
        if part in _NEEDS[kind] and given is None:
            raise UsageError(f"{what} needs {_FORMS[part]}")
        if part not in _NEEDS[kind] | _MAY_HAVE.get(kind, set()) and given is not None:
            raise UsageError(f"{what} has no use for {_FORMS[part]}; leave it out")
    url = url or (URL if kind == "pagerduty" else "")
    hide = hider(secrets_in(url, host_too=kind == "apprise") | {secret or ""})
    where = _check_http(what, url) if url and kind != "apprise" else kind
    try:
        teller = _teller(settings, url, secret or "", clock)
    except UsageError as error:
        raise UsageError(f"{what}: {hide(str(error))}") from None
    lease = lasting(settings.timeout_seconds + _MARGIN_S)
    return Channel(settings.name, kind, teller, where, lease, hide)


def _teller(settings: ChannelSettings, url: str, secret: str, clock: Callable[[], datetime]) -> Sender | Renewer:
    timeout_s = settings.timeout_seconds
    match settings.kind:
        case "webhook":
            return Webhook(url, secret.encode() or None, timeout_s, clock)
        case "alertmanager":
            return Alertmanager(url.rstrip("/").removesuffix(PATH), timeout_s)
        case "pagerduty":
            return PagerDuty(url, secret, timeout_s, clock)
        case "stdout":
            return Stdout(settings.name)
        case "apprise":
            try:
                from pipeline.senders.apprise_url import AppriseUrl
            except ImportError as error:
                raise UsageError("Apprise is not installed; pip install 'oodwatch[apprise]'") from error
            return AppriseUrl(url, timeout_s)


def _check_http(what: str, url: str) -> str:
    """Who is asked there: host and port. Raises UsageError for what is no http address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its words would repeat the address
        raise UsageError(f"{what}: the address cannot be read; write http://host:port/path or https://...") from None
    if parts.scheme not in ("http", "https") or not host:
        scheme = parts.scheme or "none"
        raise UsageError(f"{what}: the address has scheme {scheme!r}; write http://host:port/path or https://...")
    where = host if port is None else f"{host}:{port}"
    if parts.scheme == "http" and not _is_loopback(host):
        logger.warning("%s: %s is reached over plain http: others may read what is told; use https", what, where)
    return where


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(what: str, name: str, given: SecretStr | None, file: Path | None) -> str | None:
    """A secret as it is given, or out of its file."""
    if given is not None and file is not None:
        raise UsageError(f"{what}: both {name} and {name}_file are given; keep one of them")
    if file is None:
        text = None if given is None else given.get_secret_value().strip()
        if text == "":
            raise UsageError(f"{what}: {name} is empty")
        return text
    where = f"{what}: {name}_file = {str(file)!r}"
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(f"{where}: {said}; name a text file that user {os.getuid()} may read") from None
    if not text:
        raise UsageError(f"{where}: the file is empty; write the {name} into it")
    return text
