"""`sl.app`: the live page of a model, from Python and in notebooks."""

from __future__ import annotations

import html
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.live.engine import Engine
from sightline.live.serving import Bound, bind, serve
from sightline.models.vlm import VLM, load
from sightline.probes.sinks import Sinks, read_sinks

PORT = 7861
HEIGHT = 900
"""Of the page in a notebook's cell, in pixels."""

START_SECONDS = 20.0


class LivePage:
    """A live page that runs beside the program; a notebook shows it in the cell.

    Attributes:
        address: where it answers.
    """

    def __init__(self, bound: Bound, height: int = HEIGHT) -> None:
        self.address = bound.address
        self._bound, self._height = bound, height
        self._thread = threading.Thread(target=bound.run, name="sightline-app", daemon=True)
        self._thread.start()
        end = time.monotonic() + START_SECONDS
        while not bound.server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        if not bound.server.started:
            raise SightlineError(f"The live page did not start at {self.address}.")

    @property
    def is_running(self) -> bool:
        """Whether it answers still."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End it; the model stays as it is."""
        self._bound.server.should_exit = True
        self._thread.join(START_SECONDS)

    def __repr__(self) -> str:
        return f"Live page at {self.address}" + ("" if self.is_running else " (closed)")

    def _repr_html_(self) -> str:
        if not self.is_running:
            return f"<p>{html.escape(repr(self))}</p>"
        address = html.escape(self.address, quote=True)
        frame = "width:100%;border:1px solid #8884;border-radius:8px"
        return (
            f'<iframe src="{address}" title="Sightline, the live page" allow="clipboard-write" '
            f'style="{frame};height:{self._height}px"></iframe>'
            f'<p><a href="{address}" target="_blank" rel="noopener">{address}</a></p>'
        )


def app(
    model: Any,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    open_browser: bool | None = None,
    sinks: Sinks | str | Path | None = None,
    block: bool | None = None,
    **options: Any,
) -> LivePage | None:
    """Serve the live page of a model: until it is interrupted, or, in a notebook, beside it and in the cell.

    Args:
        model: a `VLM`, or what `load` takes.
        port: 0 for any free one; by default 7861, in a notebook any.
        host: with another than loopback, the address carries a token that keeps others out.
        open_browser: open the page; by default where it is not shown in a cell.
        sinks: the model's, or the file of them, for methods that need them and to leave them out of maps.
        options: more of what `load` takes, for a model that is named.
        block: wait until it is interrupted; by default outside of notebooks.

    Returns:
        The page, which shows itself in a notebook and has `address` and `close()`; None where it waited.

    Raises:
        InputError: when the port is taken.
        ModelError: when the model cannot be loaded.
    """
    vlm = model if isinstance(model, VLM) else None
    name = str(model) if vlm is None else vlm.name
    found = read_sinks(sinks) if isinstance(sinks, str | Path) else sinks

    def start() -> Engine:
        return Engine(load(model, **options) if vlm is None else vlm, found)

    is_waiting = not in_notebook() if block is None else block
    if is_waiting:
        serve(name, start, port=PORT if port is None else port, host=host, open_browser=open_browser is not False)
        return None
    vlm = vlm or load(model, **options)
    page = LivePage(bind(name, start, port or 0, host))
    if open_browser:
        webbrowser.open(page.address)
    return page


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell is not None else None
    return current is not None and "IPKernelApp" in getattr(current, "config", {})
