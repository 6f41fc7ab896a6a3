"""--plugin, which the program itself takes too: what it imports is all that `sightline --help` does."""

from __future__ import annotations

import click

from sightline.plugins import load_plugin


def _plugins(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    for module in value:
        load_plugin(module)


plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="MODULE",
    is_eager=True,
    expose_value=False,
    callback=_plugins,
    help="Import a module that registers methods or benchmarks. Repeatable.",
)
