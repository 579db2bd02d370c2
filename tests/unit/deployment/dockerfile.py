"""The Dockerfile, taken apart into stages and instructions."""

import re
from dataclasses import dataclass

from tests.unit.deployment.compose import ROOT

FILE = ROOT / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its lines joined."""

    keyword: str
    words: str


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM base AS name, and what follows."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, keyword: str) -> list[str]:
        """The words of every instruction of this keyword."""
        return [one.words for one in self.instructions if one.keyword == keyword]


def stages() -> dict[str, Stage]:
    """All stages by name, in order."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    instructions = [Instruction(*line.split(" ", 1)) for line in lines if line]
    starts = [at for at, one in enumerate(instructions) if one.keyword == "FROM"]
    found: dict[str, Stage] = {}
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        base, name = instructions[start].words.split(" AS ")
        found[name] = Stage(name, base, tuple(instructions[start + 1 : end]))
    return found


def lineage(target: str) -> list[Stage]:
    """The stages that a target is built on, the first one first."""
    by_name = stages()
    line = [by_name[target]]
    while line[0].base in by_name:
        line.insert(0, by_name[line[0].base])
    return line
