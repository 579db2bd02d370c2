"""A real PostgreSQL server, from its binaries, without Docker and not as root."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.services import guard
from tests.services.availability import unavailable

_OPTIONS = {"shared_buffers": "64MB", "max_connections": "60", "log_min_messages": "warning"}
_INITDB = ("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
_START_S = 60
_names = count()


class Postgres:
    """A server that somebody runs, seen as its superuser."""

    def __init__(self, superuser: URL) -> None:
        self.superuser = superuser

    def url(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """`postgresql+psycopg://...`, of the superuser or of another role."""
        url = self.superuser.set(drivername="postgresql+psycopg", database=database)
        if user is not None:
            url = url.set(username=user, password=password)
        return url.render_as_string(hide_password=False)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser, outside of a transaction; its rows, if any."""
        plain = make_url(self.url(database)).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True, connect_timeout=5) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str | None = None, *, template: str = "template0") -> str:
        """A new database, by default of a name that no other has; its name."""
        name = name or f"oodwatch_test_{os.getpid()}_{next(_names)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class PostgresServer(Postgres):
    """A server of our own that may be stopped, killed and frozen. It never outlives this process.

    The port stays the same over restarts. `options` are settings of postgresql.conf. As root the
    data lie in the system's temporary folder: the server runs as `postgres` or `nobody`, who cannot
    enter a test's own folder. Raises LookupError where there are no binaries.
    """

    def __init__(self, home: Path, options: Mapping[str, str] | None = None) -> None:
        self._bin = find_binaries()
        self._user = _unprivileged_user()
        home.mkdir(parents=True, exist_ok=True)
        self._home = Path(tempfile.mkdtemp(prefix="oodwatch-postgres-", dir=None if self._user else home))
        if self._user:
            shutil.chown(self._home, self._user)
        self._data = self._home / "data"
        self.log = home / "postgres.log"
        self._options = {**_OPTIONS, **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            [sys.executable, guard.__file__, str(self._data / "postmaster.pid"), str(self._home)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is not for the guard
        )
        password = secrets.token_hex(8)
        self._initialise(password)
        super().__init__(URL.create("postgresql+psycopg", "postgres", password, "127.0.0.1", _free_port(), "postgres"))

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        options = {**self._options, "unix_socket_directories": "", "listen_addresses": "127.0.0.1"}
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-p", str(self.superuser.port), *flags],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **self._identity(),
            )
        for _ in range(_START_S * 20):
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.05)
                    raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()[-2000:]}") from None
            else:
                return
        raise RuntimeError(f"PostgreSQL did not answer within {_START_S} s, see {self.log}")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Shut down and wait; `immediate` is a crash that is announced to the clients."""
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        if self._process is not None:
            self._process.send_signal(signals[mode])
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """kill -9 of the postmaster and all its children: clients see a connection reset."""
        if self._process is not None:
            guard.kill_tree(self._process.pid)
            self._process.wait()
            self._process = None

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the server holds its connections and answers nothing."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """Kill what still runs and remove the data."""
        self.kill()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(60)

    def _tree(self) -> list[psutil.Process]:
        """The postmaster first: frozen, it starts no more children."""
        root = psutil.Process(self.pid)
        root.suspend()
        return [root, *root.children(recursive=True)]

    def _initialise(self, password: str) -> None:
        passwords = self._home / "password"
        passwords.write_text(password)
        if self._user:
            shutil.chown(passwords, self._user)
        made = subprocess.run(
            [self._bin / "initdb", "-D", self._data, "-U", "postgres", "--pwfile", passwords, *_INITDB],
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.strip()}")

    def _identity(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": [], "cwd": self._home}


def find_binaries() -> Path:
    """The folder of `initdb` and `postgres`, in the PATH or where Debian keeps them; the newest."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda folder: float(folder.parent.name),
    )
    if not folders:
        raise LookupError(
            "no PostgreSQL: set OODWATCH_TEST_POSTGRES to a superuser's URL, or install the package `postgresql`"
        )
    return folders[-1]


def _unprivileged_user() -> str | None:
    """Whom to become; None where this process is no root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _free_port() -> int:
    """Below the range of outgoing connections, which else could take the port while the server restarts."""
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running_server(home: Path, options: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A server of the test's own; the test is skipped, or fails in CI, where there are no binaries."""
    try:
        server = PostgresServer(home, options)
    except LookupError as error:
        unavailable(str(error))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The server that OODWATCH_TEST_POSTGRES names (a superuser's URL), else one of our own. No test may crash it."""
    named = os.environ.get("OODWATCH_TEST_POSTGRES")  # noqa: TID251 tests have no settings
    if named:
        yield Postgres(make_url(named))
        return
    with running_server(tmp_path_factory.mktemp("postgres"), {"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="module")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of this module alone, which its tests may kill and freeze."""
    with running_server(tmp_path_factory.mktemp("postgres-server")) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database without tables, dropped afterwards."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> Iterator[str]:
    """A database of the newest revision, to be copied: quicker than migrating anew for each test."""
    from pipeline.storage.engine import make_engine
    from pipeline.storage.migrations.run import upgrade

    name = postgres.create_database()
    engine = make_engine(postgres.url(name))
    upgrade(engine)
    engine.dispose()
    yield name
    postgres.drop_database(name)


@pytest.fixture
def migrated_postgres_url(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """A fresh database of the newest revision, dropped afterwards."""
    name = postgres.create_database(template=migrated_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Runs a test on both engines: a database that `open_database` accepts and that holds no row."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'test.db'}"
    return str(request.getfixturevalue("migrated_postgres_url"))
