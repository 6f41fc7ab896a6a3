"""`sl.app`: the live page of a model, from Python."""

from __future__ import annotations

from typing import Any

from sightline.live.engine import Engine
from sightline.live.server import serve
from sightline.models.vlm import VLM, load


def app(model: Any, *, port: int = 7861, host: str = "127.0.0.1", open_browser: bool = True, **options: Any) -> None:
    """Serve the live page of a model until it is interrupted.

    Args:
        model: a `VLM`, or what `load` takes.
        port: 0 for any free one.
        host: with another than loopback, the address carries a token that keeps others out.
        open_browser: open the page.
        options: more of what `load` takes, for a model that is named.

    Raises:
        InputError: when the port is taken.
        ModelError: when the model cannot be loaded.
    """
    is_loaded = isinstance(model, VLM)
    name = model.name if is_loaded else str(model)
    serve(
        name,
        lambda: Engine(model if is_loaded else load(model, **options)),
        port=port,
        host=host,
        open_browser=open_browser,
    )
