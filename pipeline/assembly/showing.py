"""Composition: settings → the dashboard."""

from collections.abc import Callable

from dashboard.board import Board
from dashboard.serving import Place, serve
from pipeline.assembly.detecting import thresholds_of
from pipeline.assembly.overview import SILENT_AFTER
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
        settings.clock.now,
        levels=(thresholds.warning, thresholds.critical),
        budget_days=settings.detector.budget_days,
        silent_after=SILENT_AFTER * settings.clock.factor,
        stale_after=settings.clock.lasting(60 * chosen.stale_minutes),
        refresh_s=chosen.refresh_seconds,
        user_header=chosen.user_header,
    )
    place = Place(chosen.address, chosen.port, chosen.hosts, chosen.user_header, chosen.insecure)
    try:
        serve(board, place, say=say)
    finally:
        engine.dispose()
