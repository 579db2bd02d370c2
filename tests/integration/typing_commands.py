"""Commands as a person types them, and what they leave behind."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def refuses(self, code: int, *words: str) -> None:
        """One line on stderr with these words, and nothing on stdout."""
        assert self.code == code, self.err
        assert self.err.startswith("oodwatch: ")
        assert self.err.count("\n") == 1, self.err
        for word in words:
            assert word in self.err
        assert self.out == ""


def contents(home: Path) -> dict[str, object]:
    """Every file below a folder: its bytes, or its rows where it is a database."""
    found: dict[str, object] = {}
    for path in sorted(home.rglob("*")):
        if path.suffix in {".db", ".sqlite"}:
            connection = sqlite3.connect(path)
            found[path.name] = list(connection.iterdump())
            connection.close()
        elif not path.is_dir() and not path.name.endswith(("-wal", "-shm")):
            found[str(path.relative_to(home))] = path.read_bytes()
    return found


Command = Callable[..., Answer]
