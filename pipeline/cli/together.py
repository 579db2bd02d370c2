"""Commands of several processes: demo, up."""

import socket
import sys
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pipeline.cli.output import Json, note, print_json
from pipeline.cli.run import stop_on_signals
from pipeline.errors import UsageError

_COLOURS = {"worker": "green", "monitor": "cyan", "dashboard": "magenta", "page": "bold red", "demo": "yellow"}
_WIDEST = max(map(len, _COLOURS))
_PORT = 8501


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No dashboard, no browser.")] = False,
    seconds: Annotated[
        int, typer.Option(min=5, metavar="N", help="How long images are sent; from 300 on the whole story.")
    ] = 450,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder for package, database and images: to repair the model next."),
    ] = None,
    quiet: Annotated[
        str | None,
        typer.Option(metavar="DAYS", help="With --fast: so many days of clean traffic, as 30d; counts the pages."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="With --quiet: without a clock, as quickly as it goes.")] = False,
    as_json: Json = False,
) -> None:
    """Six cameras show digits to a digit reader, then one shows cats: watch it being noticed, told and resolved.

    Worker, monitor and dashboard run as they would in production, on a log,
    a database and two weeks of history of their own, and with a clock on
    which a second is a minute. Opens a browser; what is told is printed
    here. After Ctrl-C, or its end, nothing is left behind; kill -9 leaves a
    folder in the temporary directory.

    Example: oodwatch demo
    """
    days = _days(quiet, fast=fast)
    note("starting ...")  # torch takes some seconds to load
    if days is not None:
        from pipeline.demo.quiet import run_quiet

        found = run_quiet(days=days, stop=stop_on_signals(), say=note)
        if as_json:
            print_json(found.as_dict())
        else:
            typer.echo(found.as_text())
        return
    from pipeline.demo.scenario import run_demo

    voices = Voices()
    shows = not (headless or as_json)
    if shows and find_spec("streamlit") is None:
        note("the dashboard's libraries are not installed (pip install 'oodwatch[dashboard]'): there is only text")
        shows = False
    summary = run_demo(
        seconds=seconds,
        port=free_port(_PORT) if shows else None,
        stop=stop_on_signals(),
        say=lambda text: voices("demo", text),
        hear=voices,
        shown=_open_browser,
        keep=keep,
    )
    if as_json:
        print_json(summary.as_dict())
    else:
        typer.echo(summary.as_text())
        note("next, with your own model: README.md, or oodwatch package --help")


def _days(quiet: str | None, *, fast: bool) -> int | None:
    """As in --quiet 30d; None where it is not given."""
    if quiet is None and not fast:
        return None
    if quiet is None or not fast:
        raise UsageError("--quiet and --fast belong together, as in `oodwatch demo --quiet 30d --fast`")
    number = quiet.removesuffix("d")
    if not number.isdigit() or not 1 <= int(number) <= 365:
        raise UsageError(f"--quiet {quiet}: give 1 to 365 days, as 30d")
    return int(number)


def up(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The settings; `oodwatch init` writes one.")],
) -> None:
    """Run worker, monitor and dashboard together, on the source and the database that the settings name.

    If one of them ends, all do, and the reason is said; Ctrl-C or SIGTERM
    ends them in order. Where there are several machines, run the roles on
    their own instead: nothing needs this command.

    Example: oodwatch up --config oodwatch.toml
    """
    if not config.is_file():
        raise UsageError(f"--config {config}: there is no such file; `oodwatch init` writes one")
    from pipeline.assembly.supervising import run_together
    from pipeline.assembly.together import roles_of
    from pipeline.settings import child_environment, load_settings_from

    roles = roles_of(load_settings_from(config))
    run_together(roles, child_environment(config, alone=False), Voices(), stop_on_signals())


class Voices:
    """Lines of several processes on one stderr, each with its name before it; JSON logs stay as they are."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._lock = threading.Lock()

    def __call__(self, role: str, line: str) -> None:
        """One line."""
        with self._lock:
            if line.startswith("{"):
                sys.stderr.write(line + "\n")
                return
            self._console.print(Text(f"{role:<{_WIDEST}} | ", style=_COLOURS.get(role, "")), end="")
            self._console.print(Text(line))


def free_port(wished: int) -> int:
    """The wished port of this machine, or any other where it is taken."""
    for port in (wished, 0):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = tried.getsockname()[1]
            return found
    raise UsageError("no port of 127.0.0.1 is free")


def _open_browser(url: str) -> None:
    """Once the pages answer; where there is no browser, the address in the terminal has to do."""
    threading.Thread(target=_open_when_ready, args=(url,), name="browser", daemon=True).start()


def _open_when_ready(url: str) -> None:
    import time

    import httpx

    for _ in range(120):
        try:
            if httpx.get(url + "livez", timeout=1).status_code == 200:
                webbrowser.open(url)
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
