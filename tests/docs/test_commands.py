"""Every command line that the documents show is one that the command line takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
import pytest

from docs.pages import NAMES, ROOT, CommandLine, command_lines, words_of
from sightline.benchmarks.base import BENCHMARKS
from sightline.cli.main import COMMANDS, cli
from sightline.methods.base import METHODS


@pytest.fixture(autouse=True)
def example_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names of the package that docs/extending.md builds, as if it were installed."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "plugin" / "src")
    added = ((METHODS, "image_focus"), (BENCHMARKS, "colours"))
    for registry, name in added:
        monkeypatch.setitem(registry.homes, name, f"sightline_example.{name}")
    yield
    for registry, name in added:
        registry.forget(name)
        sys.modules.pop(f"sightline_example.{name}", None)


LINES = [line for page in NAMES for line in command_lines(page)]


@pytest.mark.parametrize("line", LINES, ids=str)
def test_it_parses(line: CommandLine) -> None:
    name, *words = line.words
    assert name in COMMANDS, f"there is no sightline {name}"
    command = cli.get_command(click.Context(cli), name)
    if isinstance(command, click.Group):
        name, *words = words
        command = command.commands.get(name)
    assert command is not None
    try:
        command.make_context(name, words)
    except click.exceptions.Exit:
        pass  # --help, --list: said and done
    except click.ClickException as error:
        pytest.fail(f"{' '.join(line.words)}: {error.format_message()}")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_parse(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    text = (command.epilog or "").replace("\\\n", " ").replace("Example: ", "")
    found = [words for line in text.splitlines() if (words := words_of(line.strip()))]
    assert found, f"sightline {name} --help has no example"
    for words in found:
        test_it_parses(CommandLine("help", 0, tuple(words)))


def test_there_are_many_and_every_command_is_among_them() -> None:
    assert len(LINES) > 60
    assert set(COMMANDS) <= {line.words[0] for line in LINES}
