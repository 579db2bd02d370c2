"""Strings of others (segments, classes, notes, answers of servers) in texts that people and programs read."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

# Lookalikes without a meaning, for it is not known how a channel renders a text: HTML, Markdown, Slack's own.
_HARMLESS = str.maketrans(
    {"<": "‹", ">": "›", "&": "＆", "[": "(", "]": ")", "`": "'", "*": "∗", "~": "∼", "|": "¦", "@": "＠", "#": "＃"}
)
_LONGEST_STRING = 1_000
_MOST_PARTS = 50
_DEEPEST = 6


def plain(text: str, limit: int) -> str:
    """One line of at most `limit` characters: no control or formatting characters, no white space but single spaces."""
    kept = "".join(" " if _is_control(character) else character for character in text[: 4 * limit])
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def neutral(text: str) -> str:
    """The same with every character replaced that could be a tag, a link, a mention or emphasis."""
    return text.translate(_HARMLESS)


def bounded(value: Any, depth: int = 0) -> Any:
    """A JSON value of bounded size and depth, without control characters: what is too much is left out."""
    if isinstance(value, str):
        return plain(value, _LONGEST_STRING)
    if isinstance(value, Mapping):
        if depth == _DEEPEST:
            return {}
        return {plain(str(name), 100): bounded(part, depth + 1) for name, part in list(value.items())[:_MOST_PARTS]}
    if isinstance(value, Sequence):
        return [] if depth == _DEEPEST else [bounded(part, depth + 1) for part in value[:_MOST_PARTS]]
    return value


def finite(value: Any) -> Any:
    """A JSON value without numbers that JSON does not know: they are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
