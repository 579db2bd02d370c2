"""Composition: settings → the dashboard."""

import getpass
from collections.abc import Callable
from datetime import timedelta

from dashboard.board import Board
from dashboard.serving import Place, is_loopback, serve
from pipeline.assembly.deciding import Operator
from pipeline.assembly.detecting import thresholds_of
from pipeline.assembly.overview import SILENT_AFTER
from pipeline.records import utc_now
from pipeline.settings import Settings
from pipeline.storage.read_only import open_read_only


def show_dashboard(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Serve the pages until a signal ends it; `say` hears their address.

    Raises UsageError for an address that strangers reach, or a database that is none; EnvironmentFault where the
    address is taken.
    """
    chosen, thresholds = settings.dashboard, thresholds_of(settings)
    engine = open_read_only(settings.database_url)
    board = Board(
        engine,
        utc_now,
        levels=(thresholds.warning, thresholds.critical),
        budget_days=settings.detector.budget_days,
        silent_after=SILENT_AFTER,
        stale_after=timedelta(minutes=chosen.stale_minutes),
        refresh_s=chosen.refresh_seconds,
        user_header=chosen.user_header,
        actions=Operator(settings),
        login=_login(chosen.address),
    )
    place = Place(chosen.address, chosen.port, chosen.hosts, chosen.user_header, chosen.insecure)
    try:
        serve(board, place, say=say)
    finally:
        engine.dispose()


def _login(address: str) -> str | None:
    """Who started the server is who sits before it, where nobody else can reach it."""
    if not is_loopback(address):
        return None
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return None
