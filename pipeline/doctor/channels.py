"""Who is told: every channel can be made, its files are readable, somebody listens at its address."""

import socket
from collections.abc import Iterator

from pipeline.assembly.telling import make_channels, make_deadman, server_of
from pipeline.doctor.finding import Finding
from pipeline.records import utc_now
from pipeline.settings import Settings

_TIMEOUT_S = 3.0
_TRY = "`oodwatch notify test` sends a test"


def check_channels(settings: Settings) -> Iterator[Finding]:
    """Nothing is sent. Raises UsageError for a channel, or a dead-man address, that cannot be."""
    make_channels(settings, utc_now)
    make_deadman(settings.deadman, utc_now)
    if not settings.channels:
        yield Finding("channels", "skipped", "nobody is told", "write a [[channels]] table, see `oodwatch init`")
    for channel in settings.channels:
        what = f"{channel.name} ({channel.kind})"
        server = server_of(channel)
        if server is None:
            yield Finding("channels", "ok", f"{what} can be made; {_TRY}")
            continue
        where = f"{server[0]}:{server[1]}"
        try:
            socket.create_connection(server, timeout=_TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:  # a host's name may be none
            # A proxy may lead there all the same.
            yield Finding("channels", "warning", f"{what}: no connection to {where}: {error}", _TRY)
        else:
            yield Finding("channels", "ok", f"{what}: {where} listens")
