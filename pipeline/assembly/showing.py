"""Composition: settings → the dashboard."""

import getpass
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dashboard.board import Board, Claims, Rules
from dashboard.gates import LOOPBACK, Proxy
from dashboard.serving import Place, is_loopback, serve
from dashboard.signing_in import Provider
from pipeline.assembly.deciding import Operator
from pipeline.assembly.detecting import thresholds_of
from pipeline.assembly.originals import LogOriginals
from pipeline.assembly.overview import SILENT_AFTER
from pipeline.assembly.proposing import Proposals
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
    place = place_of(chosen)
    place.check()
    engine = open_read_only(settings.database_url)
    operator = Operator(settings)
    board = Board(
        engine,
        settings.clock.now,
        levels=(thresholds.warning, thresholds.critical),
        budget_days=settings.detector.budget_days,
        silent_after=SILENT_AFTER * settings.clock.factor,
        stale_after=settings.clock.lasting(60 * chosen.stale_minutes),
        refresh_s=chosen.refresh_seconds,
        url=settings.alerts.dashboard_url,
        user_header=chosen.user_header,
        actions=operator,
        may_write=operator.may_write,
        preparing=Proposals(settings),
        originals=None if settings.source.url is None else LogOriginals(settings, settings.source.url, engine),
        explainer=f"http://{settings.explain.address}:{settings.explain.port}",
        login=_login(chosen.address),
        rules=_rules(chosen),
    )
    beside = _explaining(settings) if explains else nullcontext()
    try:
        with beside:
            serve(board, place, say=say)
    finally:
        engine.dispose()


def _rules(chosen: DashboardSettings) -> Rules:
    return Rules(
        images=chosen.images,
        image_groups=None if chosen.image_groups is None else frozenset(chosen.image_groups),
        operator_groups=None if chosen.operator_groups is None else frozenset(chosen.operator_groups),
        groups_header=chosen.groups_header,
        claims=None if chosen.oidc is None else Claims(chosen.oidc.name_claim, chosen.oidc.groups_claim),
    )


def place_of(chosen: DashboardSettings) -> Place:
    """Where pages are served, and who asks who is there. Raises UsageError for a secret's file that cannot be read."""
    proxy = provider = None
    if chosen.user_header is not None:
        networks = LOOPBACK if chosen.proxies is None else tuple(map(str, chosen.proxies))
        secret = chosen.proxy_secret_file
        proxy = Proxy(chosen.user_header, networks, None if secret is None else _secret("proxy_secret_file", secret))
    if (oidc := chosen.oidc) is not None:
        provider = Provider(
            oidc.server_metadata_url,
            oidc.client_id,
            _secret("oidc.client_secret_file", oidc.client_secret_file),
            oidc.redirect_uri,
            _secret("oidc.cookie_secret_file", oidc.cookie_secret_file),
            oidc.scope,
        )
    return Place(chosen.address, chosen.port, chosen.hosts, proxy, provider, chosen.insecure)


def _secret(setting: str, file: Path) -> str:
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(f"setting dashboard.{setting} = {str(file)!r}: {said}; name a text file to be read") from error
    if not found:
        raise UsageError(f"setting dashboard.{setting} = {str(file)!r}: the file is empty; write the secret into it")
    return found


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
