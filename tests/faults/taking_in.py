"""A process that takes transitions in until there are none left; says a line after each transaction. To be killed."""

import sys
from dataclasses import replace
from datetime import timedelta

from pipeline.alerts.lifecycle import Rules
from pipeline.stages.alerting import look, take_in
from pipeline.storage.engine import open_database, reading
from pipeline.storage.monitoring import watched_deployments
from tests.alerted import LOUD, at

#: Everything is recent enough to be told, and what is back after a few minutes is a new incident.
TELLING = replace(LOUD, rules=Rules(max_page_age=timedelta(days=10), reopen=timedelta(minutes=3)))
NOW = at(5_000)


def run(url: str) -> None:
    engine = open_database(url)
    with reading(engine).connect() as conn:
        (deployment,) = watched_deployments(conn, None)
    while take_in(engine, deployment, TELLING, now=NOW, limit=3) is not None:
        sys.stdout.write("taken\n")
        sys.stdout.flush()
    look(engine, deployment, TELLING, now=NOW)
    engine.dispose()


if __name__ == "__main__":
    run(sys.argv[1])
