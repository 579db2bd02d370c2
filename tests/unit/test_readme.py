"""What the README tells people to type exists."""

import pytest
import typer
from typer.core import TyperGroup

from pipeline.cli.app import app
from tests.readme import named


@pytest.mark.parametrize("words", named(), ids=" ".join)
def test_every_command_of_the_readme_and_each_of_its_options_exist(words: tuple[str, ...]) -> None:
    command, rest = typer.main.get_command(app), words
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {"--help"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - known
    assert not unknown, f"{command.name} knows no {unknown}"
