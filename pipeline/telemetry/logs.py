"""Logs on stderr, in UTC: lines for people, or JSON objects for machines. Passwords in URLs are masked."""

import logging
import sys
import time
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

from pipeline.errors import masked


def configure_logging(form: Literal["auto", "text", "json"], level: str) -> bool:
    """Send all logs to stderr; `auto` is text on a terminal, else JSON. Return whether it is JSON.

    A log call's `extra` (topic, partition, start, end, owner) becomes fields of the JSON object.
    """
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = _Masking()
    handler.setFormatter(_json_formatter() if as_json else _text_formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("pipeline").setLevel(level.upper())  # libraries only warn
    return as_json


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(threadName)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "threadName": "thread"},
        timestamp="time",
        json_ensure_ascii=False,
    )


def _text_formatter() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


class _Masking(logging.Handler):
    """Writes to whatever stderr is now: a progress bar replaces it, and shows lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(masked(self.format(record)) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)
