"""The README as tests see it: its blocks of code, and the commands that it names."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(oodwatch [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the heading that it stands under."""

    heading: str
    language: str
    text: str


def blocks() -> list[Block]:
    """All of them, in order."""
    text = README.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        heading = text[: match.start()].rpartition("\n## ")[2].partition("\n")[0]
        found.append(Block(heading, match[1], match[2]))
    return found


def commands_of(block: Block) -> list[list[str]]:
    """What a shell would run, word by word, without comments."""
    joined = block.text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def named() -> list[tuple[str, ...]]:
    """Every command of oodwatch that the README shows, once: in blocks and within sentences."""
    text = README.read_text(encoding="utf-8")
    in_blocks = (words for block in blocks() if block.language == "sh" for words in commands_of(block))
    sentences = (shlex.split(found.replace("\n", " ")) for found in _INLINE.findall(_BLOCK.sub("", text)))
    every = (tuple(words[1:]) for words in (*in_blocks, *sentences) if words[0] == "oodwatch")
    return list(dict.fromkeys(every))
