"""A real Alertmanager: OODWATCH_TEST_ALERTMANAGER names its program, else the PATH, else Debian's package.

The package is downloaded and unpacked once into a cache folder, not installed. A server listens on 127.0.0.1
only and is killed with the process that started it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock

from tests.services.availability import unavailable
from tests.services.processes import free_port, spawn, wait_until

_PACKAGE = "prometheus-alertmanager"
_CURE = f"name it with OODWATCH_TEST_ALERTMANAGER, or install the package `{_PACKAGE}`"
#: One notification for each group at once, and another whenever something in it changes.
_CONFIG = """\
route:
  receiver: hook
  group_by: [deployment]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: {hook}
        send_resolved: true
"""


class Alertmanager:
    """One server, whose notifications go to a webhook."""

    def __init__(self, url: str) -> None:
        self.url = url

    def alerts(self) -> list[dict[str, Any]]:
        """What it holds to be firing."""
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/api/v2/alerts", timeout=30).json()
        return found


@contextmanager
def running_alertmanager(home: Path, hook: str) -> Iterator[Alertmanager]:
    """A server of the test's own; the test is skipped, or fails in CI, where there is no program."""
    command = find_command()
    config = home / "alertmanager.yml"
    config.write_text(_CONFIG.format(hook=hook))
    server = Alertmanager(f"http://127.0.0.1:{free_port()}")
    log = home / "alertmanager.log"
    process = spawn(
        [
            *command,
            f"--config.file={config}",
            f"--storage.path={home / 'alertmanager'}",
            f"--web.listen-address={server.url.removeprefix('http://')}",
            "--cluster.listen-address=",
        ],
        output=log,
    )
    try:

        def ready() -> bool:
            assert process.poll() is None, f"Alertmanager ended:\n{log.read_text()[-2000:]}"
            try:
                return httpx.get(f"{server.url}/-/ready", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, f"an Alertmanager at {server.url}")
        yield server
    finally:
        process.kill()
        process.wait()


def find_command() -> list[str]:
    """What starts it, downloaded if need be."""
    named = os.environ.get("OODWATCH_TEST_ALERTMANAGER")  # noqa: TID251 tests have no settings
    found = named or shutil.which(_PACKAGE) or shutil.which("alertmanager")
    if found:
        return [found]
    usr = _unpacked() / "usr"
    # Debian's build reads a template from /usr/share: it sees the package's own there, and nobody else does.
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    own += ["sh", "-c", 'mount --bind "$0" /usr/share && exec setpriv --pdeathsig KILL "$@"', str(usr / "share")]
    if (tried := _run(*own, "true", folder=usr)).returncode != 0:
        unavailable(f"no Alertmanager: {tried.stderr.strip()[-300:]}; {_CURE}")
    return [*own, str(usr / "bin" / _PACKAGE)]


def _unpacked() -> Path:
    """The package's files; fetched once, for all checkouts and processes of this user."""
    folder = Path.home() / ".cache" / "oodwatch-tests" / _PACKAGE
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if folder.exists():
            return folder
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            unavailable(f"no Alertmanager: {_CURE}")
        half = folder.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        done = _run("apt-get", "download", "-qq", _PACKAGE, folder=half)
        if done.returncode != 0 and os.geteuid() == 0:  # a fresh machine does not know what there is
            _run("apt-get", "update", "-qq", folder=half)
            done = _run("apt-get", "download", "-qq", _PACKAGE, folder=half)
        if done.returncode != 0:
            unavailable(f"no Alertmanager: {(done.stdout + done.stderr).strip()[-300:]}; {_CURE}")
        (package,) = half.glob("*.deb")
        done = _run("dpkg", "-x", package.name, ".", folder=half)
        if done.returncode != 0:
            unavailable(f"no Alertmanager: {done.stderr.strip()[-300:]}; {_CURE}")
        half.rename(folder)
    return folder


def _run(*command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
