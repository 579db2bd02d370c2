"""Settings: flags > OODWATCH_* > oodwatch.toml > defaults. They enter here once; parts receive values."""

import difflib
import os
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_state_path
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pipeline.errors import UsageError
from pipeline.records import utc_now

_PREFIX = "OODWATCH_"

CONFIG_FILE = "oodwatch.toml"

#: Of a channel; what else stands there may be a secret, or hold one.
_PUBLIC = frozenset({"name", "kind", "min_state", "events", "digest", "timeout_seconds", "interval_seconds"})


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(_Section):
    """Where images come from."""

    url: str | None = None
    kafka: dict[str, str | int | float | bool] = Field(default_factory=dict)  # checked where the client is made


class LimitSettings(_Section):
    """What one record may cost; more becomes a dead letter."""

    max_bytes: int = Field(20 * 2**20, gt=0)
    max_pixels: int = Field(16_000_000, gt=0)
    max_future_minutes: float = Field(5, ge=0)


class WorkerSettings(_Section):
    """How the worker gathers work, and the bound of its memory."""

    max_batch: int = Field(256, gt=0)
    max_wait_ms: float = Field(50, ge=0)
    max_records_in_flight: int = Field(2048, gt=0)
    max_megabytes_in_flight: int = Field(256, gt=0)
    decode_threads: int | None = Field(None, gt=0)
    max_segments: int = Field(1000, gt=0)
    stall_seconds: float = Field(10, gt=0)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False


class SampleSettings(_Section):
    """How many images are kept to be looked at."""

    per_segment_and_minute: int = Field(4, ge=1)
    pictures: bool = True
    max_samples: int = Field(200_000, ge=0)


class RetentionSettings(_Section):
    """How long rows are kept; an older event time is a dead letter."""

    days: float = Field(730, gt=0)

    @property
    def keep(self) -> timedelta:
        """The same as a duration."""
        return timedelta(days=self.days)


class MonitorSettings(_Section):
    """How often the monitor looks, and how long it waits for what comes late."""

    interval_seconds: float = Field(10, gt=0)
    lateness_seconds: float = Field(30, ge=0)
    idle_seconds: float = Field(120, gt=0)
    revise_hours: float = Field(24, ge=1)
    max_segments: int = Field(1000, gt=0)


class DetectorSettings(_Section):
    """How rare false alarms are to be, and which shares of flagged images matter."""

    budget_days: float = Field(30, gt=0)
    warning: float = Field(0.10, gt=0, lt=1)
    critical: float = Field(0.25, gt=0, le=1)


class AlertSettings(_Section):
    """What is told of alerts, how often, and where people can look."""

    dashboard_url: str | None = Field(None, pattern=r"^https?://\S+$")
    page_provisional: bool = False
    repeat_hours: float = Field(4, gt=0)
    max_page_age_hours: float = Field(2, gt=0)
    reopen_hours: float = Field(24, ge=0)
    retention_headroom: float = Field(0.2, gt=0, lt=1)
    digest: str = Field("off", pattern=r"^(off|([01]\d|2[0-3]):[0-5]\d)$")  # HH:MM, UTC

    @property
    def digest_at(self) -> time | None:
        """When the day is told; None: never."""
        return None if self.digest == "off" else time.fromisoformat(self.digest)


class ChannelSettings(_Section):
    """A way to people. Addresses may hold keys, so they are secrets."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    kind: Literal["webhook", "alertmanager", "pagerduty", "apprise", "stdout"]
    url: SecretStr | None = None
    url_file: Path | None = None
    secret_file: Path | None = None
    min_state: Literal["shift", "warning", "critical"] = "warning"
    events: Literal["all", "pages"] = "pages"
    digest: bool = False
    timeout_seconds: float = Field(10, gt=0, le=60)


class DeadmanSettings(_Section):
    """Who expects to hear from a monitor that works."""

    url: SecretStr | None = None
    url_file: Path | None = None
    interval_seconds: float = Field(60, ge=1)


class ExplainSettings(_Section):
    """What finds regions in images, and how much of its work is kept."""

    sam: Path | None = None
    grounder: Path | None = None
    points_per_side: int = Field(12, ge=1, le=64)
    cache_megabytes: float = Field(1024, ge=0)
    address: str = "127.0.0.1"  # of `explain --serve`, where the dashboard asks
    port: int = Field(8502, ge=0, le=65535)


class TickSettings(_Section):
    """How long ticks of each length are kept."""

    minute_days: float = Field(14, gt=0)
    five_minute_days: float = Field(90, gt=0)
    hour_days: float = Field(730, gt=0)
    day_days: float = Field(3650, gt=0)


class HttpSettings(_Section):
    """Where probes and scrapes are answered."""

    listen: str = "127.0.0.1:9108"  # HOST:PORT, or off


class OidcSettings(_Section):
    """Who knows the users, by OpenID Connect, and what these pages are to it."""

    server_metadata_url: str = Field(pattern=r"^https?://\S+$")
    client_id: str
    client_secret_file: Path
    redirect_uri: str
    cookie_secret_file: Path
    scope: str = "openid email profile"
    name_claim: str = "email"
    groups_claim: str = "groups"


class DashboardSettings(_Section):
    """Where pages are served, and for whom."""

    address: str = "127.0.0.1"
    port: int = Field(8501, ge=0, le=65535)
    hosts: tuple[str, ...] = ()  # names that a browser may ask for
    user_header: str | None = None  # in which a proxy names the user
    groups_header: str | None = None  # in which it names the user's groups
    proxies: tuple[IPvAnyNetwork, ...] | None = None  # from which it comes; None: from this machine
    proxy_secret_file: Path | None = None
    oidc: OidcSettings | None = None
    insecure: bool = False
    images: bool = True
    image_groups: tuple[str, ...] | None = None  # None: whoever is let in sees pictures
    operator_groups: tuple[str, ...] | None = None  # None: whoever is let in decides
    operator_database: str | None = None  # a login that may decide, where the pages' own only reads
    operator_password_file: Path | None = None
    refresh_seconds: float = Field(10, ge=2)
    stale_minutes: float = Field(5, gt=0)


class LogSettings(_Section):
    """What a long-running command says on stderr."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class ClockSettings(_Section):
    """What time it is. For demos and rehearsals: a clock that runs faster than the machine's.

    Both agree at `began`; since then a second of the machine is `factor` seconds.
    """

    began: AwareDatetime | None = None
    factor: float = Field(1, ge=1, le=3600)

    @model_validator(mode="after")
    def _a_fast_clock_has_a_beginning(self) -> Self:
        if self.factor != 1 and self.began is None:
            raise ValueError(f"factor = {self.factor:g} needs began, the time at which it began to run so fast")
        return self

    def now(self) -> datetime:
        """The time, UTC."""
        return self.at(utc_now())

    def at(self, machine: datetime) -> datetime:
        """The time when the machine's clock says `machine`."""
        if self.began is None or machine <= self.began:
            return machine
        return self.began.astimezone(UTC) + (machine - self.began) * self.factor

    def lasting(self, seconds: float) -> timedelta:
        """So many seconds of the machine, as this clock counts them: how long processes and disks may take."""
        return timedelta(seconds=seconds) * self.factor


class Settings(BaseSettings):
    """Everything a person can set."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=lambda: user_state_path("oodwatch"))
    database: str | None = None
    database_password_file: Path | None = None
    model: Path | None = None
    deployment: str | None = None
    reference: str | None = None
    source: Annotated[SourceSettings, NoDecode] = SourceSettings()
    limits: LimitSettings = LimitSettings()
    worker: WorkerSettings = WorkerSettings()
    samples: SampleSettings = SampleSettings()
    retention: RetentionSettings = RetentionSettings()
    monitor: MonitorSettings = MonitorSettings()
    detector: DetectorSettings = DetectorSettings()
    alerts: AlertSettings = AlertSettings()
    channels: tuple[ChannelSettings, ...] = ()
    deadman: DeadmanSettings = DeadmanSettings()
    ticks: TickSettings = TickSettings()
    explain: ExplainSettings = ExplainSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    dashboard: DashboardSettings = DashboardSettings()
    clock: ClockSettings = ClockSettings()

    @field_validator("source", mode="before")
    @classmethod
    def _source_may_be_a_url(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value

    @property
    def database_url(self) -> str:
        """The database, by default a SQLite file in the state directory. Holds the password: never log it.

        Raises UsageError: the password's file cannot be read, is empty, or has no use.
        """
        url = self.database or f"sqlite:///{self.state_dir / 'oodwatch.db'}"
        return url if self.database_password_file is None else _with_password(url, self.database_password_file)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file named by OODWATCH_CONFIG or ./oodwatch.toml."""
        if isinstance(env_settings, EnvSettingsSource):
            # Written out, a URL leaves alone what is set beside it, as the credentials of source.kafka.
            short, written_out = "oodwatch_source", "oodwatch_source__url"
            env_settings.env_vars = {
                written_out if name == short else name: value for name, value in env_settings.env_vars.items()
            }
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file())


def child_environment(config: Path, *, alone: bool) -> dict[str, str]:
    """The environment of a process that reads its settings from `config`; `alone`: from nothing else."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 the one place
        if not (alone and name.startswith(_PREFIX))
    }
    return {**inherited, f"{_PREFIX}CONFIG": str(config.resolve())}


def load_settings_from(config: Path) -> Settings:
    """What a process reads that `child_environment` was made for; the file in the place of any other."""
    os.environ[f"{_PREFIX}CONFIG"] = str(config)  # noqa: TID251 the one place
    return load_settings()


def load_settings(**flags: Any) -> Settings:
    """Merge flags (None = not given) with environment and file.

    Raises UsageError that names the setting, what was given and what is wrong with it.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_misspelt(os.environ)  # noqa: TID251 the one place
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        said = "there is no such setting" if unknown else first["msg"]
        value = "" if unknown or _may_be_secret(first) else f" = {first.get('input')!r}"
        raise UsageError(f"setting {name}{value}: {said}; see `oodwatch init` for all settings") from error
    except ValueError as error:  # TOML that does not parse
        raise UsageError(f"{_config_file()}: {error}") from error


def _may_be_secret(error: ErrorDetails) -> bool:
    """Whether what was given may hold a key: a channel's address, or a whole channel. Unknown names may, too."""
    place, given = error["loc"], error.get("input")
    return place[0] in ("channels", "deadman") and (
        place[-1] not in _PUBLIC or not isinstance(given, str | int | float)
    )


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """A variable that is nearly a setting's name; others may be an orchestrator's, as OODWATCH_PORT."""
    known = {f"{_PREFIX}{name}".upper(): name for name in Settings.model_fields}
    for variable in environment:
        first = variable.split("__")[0]
        if not first.startswith(_PREFIX) or first in known or first == f"{_PREFIX}CONFIG":
            continue
        if meant := difflib.get_close_matches(first, known, n=1, cutoff=0.88):
            raise UsageError(f"{variable}: there is no such setting; did you mean {variable.replace(first, meant[0])}?")


def _with_password(url: str, file: Path) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    setting = f"setting database_password_file = {str(file)!r}"
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(f"{setting}: {said}; name a text file that user {os.getuid()} may read") from error
    if not password:
        raise UsageError(f"{setting}: the file is empty; write the password into it")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url  # whoever opens it says what is wrong
    if parsed.get_backend_name() == "sqlite":
        raise UsageError(f"{setting}: {url} has no password; name a server with database, or drop this setting")
    if parsed.password is not None:
        raise UsageError(f"{setting}: the database URL {parsed} holds a password too; keep one of them")
    return parsed.set(password=password).render_as_string(hide_password=False)


def _config_file() -> Path:
    named = os.environ.get("OODWATCH_CONFIG")  # noqa: TID251 the one place
    if named is not None and not Path(named).is_file():
        raise UsageError(f"OODWATCH_CONFIG={named}: there is no such file; `oodwatch init` writes one")
    return Path(named or CONFIG_FILE)


TEMPLATE = """\
# oodwatch.toml: flags > OODWATCH_* (as OODWATCH_WORKER__MAX_BATCH) > this file > defaults.
# Lines that begin with '#' show the defaults.

# database = "sqlite:////var/lib/oodwatch/oodwatch.db"   # a SQLAlchemy URL; default: in the state directory
# database_password_file = "/run/secrets/database"       # read when the database is opened; not for SQLite
# model = "models/digits"                                # a package made by `oodwatch package`
# deployment = "digits"                                  # default: the model's name
# reference = "digits-r1"                                # default: the newest of the model

[source]
# url = "spool:/var/lib/oodwatch/spool/images"           # or "kafka://kafka-1:9092,kafka-2:9092/images"

# Every security and network setting of kafka-python, under its own name (OODWATCH_SOURCE__KAFKA__SASL_MECHANISM).
# A secret may come from a file: the setting's name with _file behind it.
[source.kafka]
# group_instance_id = "gpu-7"                            # a name of its own for each worker: a restart then
#                                                        # stalls nobody; the session lasts 30 s instead of 10 s
# security_protocol = "PLAINTEXT"                        # SSL, SASL_PLAINTEXT, SASL_SSL
# ssl_cafile = "/etc/oodwatch/ca.pem"                    # also ssl_certfile, ssl_keyfile, ssl_password_file, ...
# sasl_mechanism = "SCRAM-SHA-512"                       # PLAIN, SCRAM-SHA-256, OAUTHBEARER, GSSAPI, AWS_MSK_IAM
# sasl_plain_username = "oodwatch"
# sasl_plain_password_file = "/run/secrets/kafka_password"
# sasl_oauth_token_file = "/run/secrets/kafka_token"     # read at every connection
# metadata_max_age_ms = 30000                            # how late an added partition is noticed
# fetch_max_bytes = 16777216

[limits]                      # more than this becomes a dead letter, with its reason
# max_bytes = 20971520
# max_pixels = 16000000
# max_future_minutes = 5      # an event time further ahead is replaced by the log's or by the arrival time

[worker]
# max_batch = 256
# max_wait_ms = 50            # a batch leaves at the latest when its oldest image has waited so long
# max_records_in_flight = 2048
# max_megabytes_in_flight = 256
# decode_threads = 2          # default: one fewer than there are cores, at most 8
# max_segments = 1000         # images of later segments are counted as "other"
# stall_seconds = 10          # records wait, polls bring none: the worker ends, to be started again
# device = "auto"             # cpu, cuda, cuda:1
# dtype = "float32"           # bfloat16, float16: the backbone only; needs a reference of its own
# compile = false             # torch.compile: slower start, faster batches

[samples]
# per_segment_and_minute = 4  # the strangest so many, and as many random ones
# pictures = true             # false keeps no image at all: no thumbnail, no features, no logits
# max_samples = 200000        # the oldest go first

[monitor]
# interval_seconds = 10       # how often it looks for what is due
# lateness_seconds = 30       # a minute is evaluated so long after its end, event time; what comes later revises it
# idle_seconds = 120          # a partition that brings nothing for so long holds no minute open
# revise_hours = 24           # images of older minutes only change the charts
# max_segments = 1000         # later segments are counted as "other"

[detector]                    # changing one of these starts the evidence anew
# budget_days = 30            # on average at most one false alarm in so many days, over all signals and segments
# warning = 0.10              # share of flagged images since the onset of a shift
# critical = 0.25

[alerts]
# dashboard_url = "https://oodwatch.example.com"         # where links in alerts lead
# page_provisional = false    # true tells channels also of what is raised before a baseline is accepted
# repeat_hours = 4            # a critical that nobody has acknowledged is told again
# max_page_age_hours = 2      # what speaks only of images older than this is listed, and told only if it goes on
# reopen_hours = 24           # an alert that is back so soon goes on: told only where it is worse than before
# retention_headroom = 0.2    # told where less than this part of the log's retention is left to unread images
# digest = "off"              # "08:00", UTC: each day in one message, on the channels with digest = true

# Who is told of incidents; one such table for each channel. All of it is sent by the monitor, tried for 24 h.
# [[channels]]
# name = "on-call"
# kind = "pagerduty"          # webhook, alertmanager, pagerduty, apprise, stdout
# secret_file = "/run/secrets/pagerduty"   # PagerDuty's routing key; of a webhook the key that signs
# url = "https://hooks.example.com/oodwatch"   # webhook; alertmanager: http://alertmanager:9093; an Apprise address
# url_file = "/run/secrets/hook"           # instead of url, for it may hold a key
# min_state = "warning"       # from which state on it is told: shift, warning, critical
# events = "pages"            # what begins, gets worse, ends; pagerduty, webhook and stdout hear also that somebody
#                             # takes care or silences. all: also what only informs
# digest = false              # true: it is told of each day, see alerts.digest
# timeout_seconds = 10

[deadman]                     # asked with GET while the monitor's runs succeed: who no longer hears of it, calls
# url = "https://hc.example.com/ping/..."  # or url_file
# interval_seconds = 60

[ticks]                       # how long the sums of a minute, five minutes, an hour, a day are kept
# minute_days = 14
# five_minute_days = 90
# hour_days = 730
# day_days = 3650

[explain]
# sam = "models/sam-vit-base" # a Segment Anything model in transformers' format, a local folder
# grounder = "models/owlv2"   # a zero-shot detector, for `oodwatch explain --text`
# points_per_side = 12        # a search for all regions clicks on a grid; the paper's 32 take minutes on a CPU
# cache_megabytes = 1024      # of embeddings in the state directory: a click on a known image is then fast
# address = "127.0.0.1"       # where `oodwatch explain --serve` answers the dashboard; of this machine alone
# port = 8502

[http]
# listen = "127.0.0.1:9108"   # /livez, /readyz, /metrics, /version; 0.0.0.0:9108 for other machines, or "off"

[dashboard]
# address = "127.0.0.1"       # other machines reach it only with user_header, [dashboard.oidc], or insecure = true
# port = 8501
# hosts = ["watch.example.org"]              # names that browsers may ask for, besides this machine's own
# user_header = "X-Forwarded-Email"          # a proxy in front signs people in and names them in it
# groups_header = "X-Forwarded-Groups"       # in which it names the user's groups, with commas between them
# proxies = ["10.0.0.0/24"]                  # from where the proxy comes; default: from this machine
# proxy_secret_file = "/run/secrets/proxy"   # what it sends in X-Oodwatch-Proxy-Secret: without it others could send
#                             # user_header, so an address that other machines reach is refused
# insecure = false            # true: whoever reaches the address sees everything
# images = true               # false: pages without pictures, whoever asks
# image_groups = ["analysts"]                # only they see pictures; default: whoever is let in
# operator_groups = ["on-call"]              # only they acknowledge, silence, accept; default: whoever is let in
# operator_database = "postgresql+psycopg://ops@db/oodwatch"   # by which people acknowledge, silence, expect, note;
#                             # default: the same login as the pages'. It needs the role oodwatch_operator
# operator_password_file = "/run/secrets/operator"
# refresh_seconds = 10
# stale_minutes = 5           # without a newer image for so long, figures are shown as old

# Instead of a proxy: people sign in here, by OpenID Connect. Such a sign-in lasts 30 days.
# [dashboard.oidc]
# server_metadata_url = "https://id.example.org/.well-known/openid-configuration"
# client_id = "oodwatch"
# client_secret_file = "/run/secrets/oidc_client"
# redirect_uri = "https://watch.example.org/oauth2callback"   # these pages' own address, and /oauth2callback
# cookie_secret_file = "/run/secrets/oidc_cookie"        # random text; another one signs everybody out
# scope = "openid email profile"
# name_claim = "email"        # what the user is called in the history of an incident
# groups_claim = "groups"

[clock]                       # for demos and rehearsals: the same in every process, never in production
# began = 2026-01-01T00:00:00Z  # since then the clock runs so many times as fast as the machine's
# factor = 1

[log]
# format = "auto"             # text on a terminal, else json
# level = "info"              # debug, warning, error

[retention]
# days = 730                  # scores, dead letters, samples; an older event time is a dead letter
"""
