"""Asking a process how it is. Starts quickly: containers do it every few seconds."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from pipeline.errors import EnvironmentFault, UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int  # 0: one that is free

    @classmethod
    def parse(cls, text: str) -> "Address | None":
        """HOST:PORT, [IPv6]:PORT, or `off` = None; UsageError for anything else."""
        if text == "off":
            return None
        found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]/\s]+)):(\d{1,5})", text)
        if found is None or int(found[3]) > 65535:
            raise UsageError(f"--http {text!r}: write HOST:PORT, as 127.0.0.1:9108 or [::1]:9108, or off")
        return cls(found[1] or found[2], int(found[3]))

    @property
    def url(self) -> str:
        """How this machine reaches what listens there."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def ask(url: str, *, timeout_s: float) -> tuple[int, Mapping[str, Any]]:
    """GET a JSON answer of this server, whatever its status.

    Raises EnvironmentFault where nobody answers, or somebody else does.
    """
    opener = build_opener(ProxyHandler({}))  # a probe of this machine must not leave by a proxy
    try:
        try:
            with opener.open(url, timeout=timeout_s) as response:
                status, body = int(response.status), response.read()
        except HTTPError as error:
            with error:
                status, body = error.code, error.read()
        return status, dict(json.loads(body))
    except (OSError, HTTPException, ValueError, TypeError) as error:
        raise EnvironmentFault(
            f"{url} does not answer as oodwatch does ({error}); is the worker running, with the same --http?"
        ) from error
