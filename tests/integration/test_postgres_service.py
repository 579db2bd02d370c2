"""The test service itself: what fault tests rely on."""

import subprocess
import sys

import psutil
import psycopg
import pytest

from tests.services.postgres import Postgres, PostgresServer


def test_a_server_keeps_its_port_and_its_rows_over_a_kill(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    postgres_server.execute("CREATE TABLE t AS SELECT 7 AS a", name)
    address = postgres_server.url(name)
    postgres_server.kill()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        postgres_server.execute("SELECT 1", name)
    postgres_server.start()
    assert postgres_server.url(name) == address
    assert postgres_server.execute("SELECT a FROM t", name) == [(7,)]


def test_a_frozen_server_answers_nothing_until_it_is_thawed(postgres_server: PostgresServer) -> None:
    plain = postgres_server.url().replace("+psycopg", "")
    postgres_server.freeze()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(plain, connect_timeout=2)
    postgres_server.thaw()
    assert postgres_server.execute("SELECT 1") == [(1,)]


def test_a_server_does_not_outlive_whoever_started_it() -> None:
    script = (
        "import os, pathlib, tempfile; from tests.services.postgres import PostgresServer;"
        "server = PostgresServer(pathlib.Path(tempfile.mkdtemp())); server.start(); server.freeze();"
        "print(server.pid, server._guard.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    found = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    pids = [int(pid) for pid in found.stdout.split()]
    assert len(pids) == 2
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=30)
    assert alive == []


def test_a_dropped_database_is_gone_also_when_somebody_is_connected(postgres: Postgres) -> None:
    name = postgres.create_database()
    with psycopg.connect(postgres.url(name).replace("+psycopg", "")):
        postgres.drop_database(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        postgres.execute("SELECT 1", name)
