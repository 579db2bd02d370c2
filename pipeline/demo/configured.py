"""The settings file that all processes of a demo share."""

import json
import tomllib
from pathlib import Path

from pipeline.records import utc_now
from pipeline.settings import Settings, load_settings

FACTOR = 60  # a second on the machine is a minute
CHANNEL = "terminal"


def configuration(home: Path, port: int | None) -> str:
    """Its text; the clock begins to run now. `port`: of the dashboard, None for none."""
    address = "" if port is None else f'dashboard_url = "http://127.0.0.1:{port}"'
    return f"""\
# Written by `oodwatch demo`: every process of it reads this file.
database = {json.dumps(f"sqlite:///{home / 'demo.db'}")}
model = {json.dumps(str(home / "digits"))}
deployment = "digits"

[source]
url = {json.dumps(f"spool:{home / 'spool'}/images")}

[clock]                     # a second on the machine is a minute
began = {utc_now().isoformat()}
factor = {FACTOR}

[monitor]
interval_seconds = 1

[alerts]
{address}

[[channels]]                # each page is a JSON line of the monitor, which the demo shows as text
name = "{CHANNEL}"
kind = "stdout"
min_state = "shift"
events = "all"

[dashboard]
port = {port or 0}
refresh_seconds = 2

[http]
listen = "off"

[log]
format = "text"
level = "warning"
"""


def settings_of(config: Path) -> Settings:
    """The same settings, for this process."""
    return load_settings(**tomllib.loads(config.read_text(encoding="utf-8")))
