"""Settings: flags > OODWATCH_* > oodwatch.toml > defaults. They enter here once; parts receive values."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_state_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pipeline.errors import UsageError

CONFIG_FILE = "oodwatch.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(_Section):
    """Where images come from."""

    url: str | None = None


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


class Settings(BaseSettings):
    """Everything a person can set."""

    model_config = SettingsConfigDict(env_prefix="OODWATCH_", env_nested_delimiter="__", extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=lambda: user_state_path("oodwatch"))
    database: str | None = None
    model: Path | None = None
    deployment: str | None = None
    reference: str | None = None
    source: Annotated[SourceSettings, NoDecode] = SourceSettings()
    limits: LimitSettings = LimitSettings()
    worker: WorkerSettings = WorkerSettings()
    samples: SampleSettings = SampleSettings()
    retention: RetentionSettings = RetentionSettings()

    @field_validator("source", mode="before")
    @classmethod
    def _source_may_be_a_url(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value

    @property
    def database_url(self) -> str:
        """The database, by default a SQLite file in the state directory."""
        return self.database or f"sqlite:///{self.state_dir / 'oodwatch.db'}"

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file())


def load_settings(**flags: Any) -> Settings:
    """Merge flags (None = not given) with environment and file.

    Raises UsageError that names the setting, what was given and what is wrong with it.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        said = "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(
            f"setting {name} = {first.get('input')!r}: {said}; see `oodwatch init` for all settings"
        ) from error
    except ValueError as error:  # TOML that does not parse
        raise UsageError(f"{_config_file()}: {error}") from error


def _config_file() -> Path:
    named = os.environ.get("OODWATCH_CONFIG")  # noqa: TID251 the one place
    if named is not None and not Path(named).is_file():
        raise UsageError(f"OODWATCH_CONFIG={named}: there is no such file; `oodwatch init` writes one")
    return Path(named or CONFIG_FILE)


TEMPLATE = """\
# oodwatch.toml: flags > OODWATCH_* (as OODWATCH_WORKER__MAX_BATCH) > this file > defaults.
# Lines that begin with '#' show the defaults.

# database = "sqlite:////var/lib/oodwatch/oodwatch.db"   # a SQLAlchemy URL; default: in the state directory
# model = "models/digits"                                # a package made by `oodwatch package`
# deployment = "digits"                                  # default: the model's name
# reference = "digits-r1"                                # default: the newest of the model

[source]
# url = "spool:/var/lib/oodwatch/spool/images"

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
# device = "auto"             # cpu, cuda, cuda:1
# dtype = "float32"           # bfloat16, float16: the backbone only; needs a reference of its own
# compile = false             # torch.compile: slower start, faster batches

[samples]
# per_segment_and_minute = 4  # the strangest so many, and as many random ones
# pictures = true             # false keeps no image at all: no thumbnail, no features, no logits
# max_samples = 200000        # the oldest go first

[retention]
# days = 730                  # scores, dead letters, samples; an older event time is a dead letter
"""
