"""sightline app: a live page to question one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sightline.cli.options import Common, common_options
from sightline.cli.output import Output
from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.live.engine import Engine

EPILOG = """Examples:

\b
  sightline app tiny-llava
  sightline app llava-hf/llava-1.5-7b-hf --port 8000 --no-browser"""


@click.command("app", epilog=EPILOG)
@click.argument("model", default="tiny-llava")
@click.option("--port", default=7861, type=click.IntRange(0, 65535), show_default=True, help="0 for any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than loopback asks for a token.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@common_options
def command(common: Common, model: str, port: int, host: str, no_browser: bool) -> None:
    """Ask a model about pictures, see where each word looks, cut what you point at, compare methods."""
    try:
        from sightline.live.server import serve
    except ImportError as error:
        raise InputError("The live page needs two more packages: pip install 'sightline-vlm[app]'.") from error

    def start() -> Engine:  # in the server's own thread, so that the page answers while torch is imported
        from sightline.live.engine import Engine
        from sightline.models.vlm import load

        return Engine(load(model, dtype=common.dtype, device=common.device, quantize=common.quantize))

    def ready(address: str) -> None:
        Output(common.json).text(f"{model} answers at {address}; Ctrl-C ends it.")

    serve(model, start, port=port, host=host, open_browser=not no_browser, on_ready=ready)
