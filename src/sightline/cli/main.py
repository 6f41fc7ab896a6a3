"""The `sightline` command: finds the command's file, and ends every error in one sentence and an exit code.

0 done, 2 wrong usage or input, 3 a gate failed, 1 anything else.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import MutableMapping, Sequence
from typing import Any, NoReturn

import click

from sightline.cli.plugin_option import plugin_option
from sightline.errors import GateError, InputError, OthersAtWork, SightlineError, SightlineWarning
from sightline.plugins import Registry
from sightline.text import printable

COMMANDS = {
    "demo": "The whole story on the bundled models, in a minute or two, ending in a report.",
    "measure": "How attention splits between text and image, layer by layer.",
    "sinks": "Which tokens soak up attention and mean nothing.",
    "impact": "What a model would do without each token, at each layer.",
    "eval": "Methods on benchmarks, the same items for all, compared in pairs.",
    "score": "Scores answers made anywhere, as the benchmark's official script does.",
    "compare": "Answers made anywhere against each other, the same items for all, in pairs.",
    "calibrate": "What each instrument shows on models whose truth is known.",
    "report": "One HTML page of run folders, to look at and to mail.",
    "app": "A live page: ask, see where each word looks, cut, compare.",
    "generate": "What a model answers, with or without a method.",
    "train": "Train a model to tie its words to the image.",
    "train-data": "Training data: false captions beside true ones.",
    "reproduce": "A published table, beside its published numbers.",
    "shapes": "A benchmark of the bundled world, drawn by seed, in official files.",
    "list": "The bundled models, the methods, the benchmarks, the published tables.",
}
"""Each command with its line in `sightline --help`; its file, `sightline.cli.<name>`, is loaded when it is named."""

REGISTRY: Registry[click.Command] = Registry(
    "command",
    "commands",
    "sightline.commands",
    {name: f"sightline.cli.{name.replace('-', '_')}" for name in COMMANDS},
    attribute="command",
)
"""The commands of Sightline, and those that other packages add by entry points."""

LONGEST = 500
"""Characters of a refusal."""

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set before the libraries load, unless set already or with --debug: what they print is not one sentence."""


class Commands(click.Group):
    """A click group that loads a command's file when it is named, and reports errors as Sightline does."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *(name for name in REGISTRY.names() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return REGISTRY.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _help_line(name)) for name in self.list_commands(ctx)])

    def main(self, args: Sequence[str] | None = None, *positional: Any, **options: Any) -> Any:
        """As click's, but every error ends as one sentence on standard error and an exit code; never returns."""
        words = (sys.argv[1:] if args is None else list(args)) or ["--help"]
        is_debug = "--debug" in words or os.environ.get("SIGHTLINE_DEBUG", "") not in ("", "0")
        options["standalone_mode"] = False
        with warnings.catch_warnings():
            if not is_debug:
                warnings.simplefilter("ignore")
                warnings.simplefilter("once", SightlineWarning)
                warnings.showwarning = _show_warning
                _quieten(os.environ)
            try:
                code = super().main(words, *positional, **options)
            except BrokenPipeError:
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (or the interpreter fails to flush it at exit)
                sys.exit(1)
            except OthersAtWork as error:
                click.echo(str(error), err=True)
                sys.exit(0)
            except Exception as error:
                _fail(error, is_debug)
        sys.exit(code if isinstance(code, int) else 0)


def _help_line(name: str) -> str:
    if name in COMMANDS:
        return COMMANDS[name]
    try:
        return REGISTRY[name].get_short_help_str(100)
    except InputError as error:
        return str(error)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Note: {_one_line(str(message))}", err=True)


def _quieten(environment: MutableMapping[str, str]) -> None:
    for name, value in QUIET.items():
        environment.setdefault(name, value)


def _fail(error: Exception, is_debug: bool) -> NoReturn:
    if is_debug and not isinstance(error, click.ClickException):
        traceback.print_exception(error)
    sentence, code = _report(error)
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(code)


def _report(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code of an error."""
    if isinstance(error, click.ClickException):
        return _one_line(error.format_message()), 2
    if isinstance(error, click.Abort):
        return "stopped from the keyboard", 1
    if isinstance(error, GateError):
        return _one_line(str(error)), 3
    if isinstance(error, SightlineError):
        return _one_line(str(error)), 2 if isinstance(error, InputError) else 1
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a file name holds a NUL byte, which no file name has: give the name of a file", 2
    return f"unexpected {type(error).__name__}: {_one_line(str(error))} (add --debug to see where)", 1


def _one_line(text: str) -> str:
    sentence = printable(" ".join(text.split()))
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: sightline measure tiny-llava --data shapes --limit 20",
)
@click.version_option(package_name="sightline-vlm", message="sightline %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
@plugin_option
def cli() -> None:
    """Does a vision-language model look at the image, or answer from language?"""


def run() -> None:
    """Entry point of the `sightline` script. A run that is ended from outside ends as by Ctrl-C, in order."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.default_int_handler)
    cli.main(prog_name="sightline")
