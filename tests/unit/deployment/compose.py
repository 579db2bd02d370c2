"""The compose file as the engine would see it: variables filled in, one service after the other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docker-compose.yml"

#: ${NAME}, ${NAME:-default}, ${NAME:?message}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<text>[^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Variable:
    """One `${...}` of the compose file."""

    name: str
    default: str | None  # None: refused where it is missing


def variables() -> list[Variable]:
    """Every variable that the compose file asks for."""
    found = _VARIABLE.finditer(FILE.read_text(encoding="utf-8"))
    return [Variable(match["name"], match["text"] if match["how"] == "-" else None) for match in found]


def documented_variables() -> dict[str, str]:
    """Names and values of .env.example."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def load_compose(values: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with its variables replaced by these values, else by their defaults."""

    def fill(match: re.Match[str]) -> str:
        return values.get(match["name"]) or (match["text"] if match["how"] == "-" else "")

    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(fill, FILE.read_text(encoding="utf-8")))
    return loaded


COMPOSE = load_compose(documented_variables())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: The services that run this project's own images.
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
