"""Composition: settings → the dashboard."""

import getpass
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from dashboard.board import Board, Rules
from dashboard.serving import Place, is_loopback, serve
from pipeline.assembly.deciding import Operator
from pipeline.assembly.detecting import thresholds_of
from pipeline.assembly.overview import SILENT_AFTER
from pipeline.errors import UsageError
from pipeline.settings import DashboardSettings, Settings
from pipeline.storage.read_only import open_read_only


def show_dashboard(settings: Settings, *, explains: bool, say: Callable[[str], None]) -> None:
    """Serve the pages until a signal ends it; `say` hears their address.

    `explains`: with a process beside them that loads the model, and ends with them.

    Raises UsageError for an address that strangers reach, a database that is none, or no model to explain;
    EnvironmentFault where the address is taken.
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
        actions=Operator(settings),
        explainer=f"http://{settings.explain.address}:{settings.explain.port}",
        login=_login(chosen.address),
        rules=_rules(chosen),
    )
    place = Place(chosen.address, chosen.port, chosen.hosts, chosen.user_header, chosen.insecure)
    beside = _explaining(settings) if explains else nullcontext()
    try:
        with beside:
            serve(board, place, say=say)
    finally:
        engine.dispose()


def _rules(chosen: DashboardSettings) -> Rules:
    groups = chosen.image_groups
    return Rules(
        images=chosen.images,
        image_groups=None if groups is None else frozenset(groups),
        groups_header=chosen.groups_header,
    )


@contextmanager
def _explaining(settings: Settings) -> Iterator[None]:
    """A process of its own, for a model takes memory, threads and seconds that pages need."""
    from pipeline.assembly.explain_service import serve_explanations

    if settings.model is None:
        raise UsageError("--explain needs the model whose energy it explains: name its package with --model DIR")
    process = multiprocessing.get_context("spawn").Process(target=serve_explanations, args=(settings,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _login(address: str) -> str | None:
    """Who started the server is who sits before it, where nobody else can reach it."""
    if not is_loopback(address):
        return None
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return None
