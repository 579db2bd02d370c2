"""Settings → the roles that run together on one machine."""

from pipeline.assembly.parts import required_model, required_source
from pipeline.assembly.supervising import Role
from pipeline.settings import Settings


def roles_of(settings: Settings) -> list[Role]:
    """Worker, monitor and dashboard. Raises UsageError where source or model is not named."""
    required_source(settings)
    required_model(settings)
    return [
        Role("worker", ("worker",)),
        Role("monitor", ("monitor", "--http", beside(settings.http.listen))),
        Role("dashboard", ("dashboard",)),
    ]


def beside(listen: str) -> str:
    """Where a second process answers probes and scrapes: on the next port; `off` stays off."""
    host, colon, port = listen.rpartition(":")
    return f"{host}:{int(port) + 1}" if colon and port.isdigit() and port != "0" else listen
