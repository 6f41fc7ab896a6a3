"""sightline app: a live page to question one model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.cli.options import known_model, output_options, sinks_option
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.errors import InputError
from sightline.jobs.settings import ModelSettings

if TYPE_CHECKING:
    from sightline.live.engine import Engine

EPILOG = """Examples:

\b
  sightline app tiny-llava
  sightline app llava-hf/llava-1.5-7b-hf --port 8000 --no-browser
  sightline app tiny-sinks --sinks sinks.json"""


@click.command("app", epilog=EPILOG)
@click.argument("model", default="tiny-llava", callback=known_model)
@click.option("--port", default=7861, type=click.IntRange(0, 65535), show_default=True, help="0 for any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than loopback asks for a token.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@sinks_option
@settings_options(ModelSettings)
@output_options
def command(
    is_json: bool, model: str, port: int, host: str, no_browser: bool, sinks: Path | None, **fields: Any
) -> None:
    """Ask a model about pictures, see where each word looks, cut what you point at, compare methods."""
    try:
        from sightline.live.serving import serve
    except ImportError as error:
        raise InputError("The live page needs two more packages: pip install 'sightline-vlm[app]'.") from error

    settings, found = ModelSettings(**fields), None
    if sinks is not None:
        from sightline.methods.registry import find_sinks_file

        found = find_sinks_file(sinks)

    def start() -> Engine:  # in the server's own thread, so that the page answers while torch is imported
        from sightline.jobs.models import load_model
        from sightline.live.engine import Engine

        return Engine(load_model(model, settings), found)

    def ready(address: str) -> None:
        Output(is_json).text(f"{model} answers at {address}; Ctrl-C ends it.")

    if serve(model, start, port=port, host=host, open_browser=not no_browser, on_ready=ready):
        sys.stdout.flush()
        os._exit(0)  # else the end would wait for a model of many gigabytes to have loaded
