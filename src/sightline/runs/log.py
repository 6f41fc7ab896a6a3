"""The log of a run folder: who ran it, when, with which settings; what was warned of, what failed, how it ended.

A line an event, on disk as it happens; a run that is continued goes on in the same file. The logger is `sightline`, so
that a program may send the same lines elsewhere. A log that cannot be written never stops a run.
"""

from __future__ import annotations

import getpass
import logging
import socket
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sightline.errors import SightlineWarning
from sightline.files.json import json_text
from sightline.text import printable

LOG_NAME = "run.log"

LOGGER = logging.getLogger("sightline")
LOGGER.addHandler(logging.NullHandler())

_FORM = "%(asctime)s process %(process)d %(levelname)s %(message)s"


class _LogFile(logging.FileHandler):
    """Takes the lines of one run, and those of no run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(logging.Formatter(_FORM, "%Y-%m-%dT%H:%M:%S%z"))

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "run", self.baseFilename) == self.baseFilename

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the file cannot be made
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk, or a folder that is gone, is reported where samples are written."""


class RunLog:
    """What one process writes into the log of a run, until `close`. The file is made with its first line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        self._handler = _LogFile(self.path)
        LOGGER.addHandler(self._handler)
        if LOGGER.level == logging.NOTSET:
            LOGGER.setLevel(logging.INFO)
        self._show = warnings.showwarning
        warnings.showwarning = self._warned

    def begin(self, command: str, settings: Mapping[str, Any], rank: int, there: str = "") -> None:
        """Who begins or continues what, and with which settings. there: what is there already, in words."""
        how = f"continued, {there}," if there else "begun"
        self._write(logging.INFO, f"{command} {how} by {_user()} on {socket.gethostname()}, rank {rank}")
        self._write(logging.INFO, f"settings {json_text(settings)}")

    def failed(self, id: str, model: str, method: str, error: str) -> None:
        """A sample that could not be done."""
        self._write(logging.WARNING, f"{id} failed under {method} on {model}: {error}")

    def end(self, error: BaseException | None, there: str) -> None:
        """How this process ended, and what is there now."""
        if error is None:
            self._write(logging.INFO, f"ended, {there}")
        else:
            self._write(logging.ERROR, f"ended by {type(error).__name__}: {error}; {there}")

    def close(self) -> None:
        """Gives back the file and the warnings."""
        if warnings.showwarning == self._warned:
            warnings.showwarning = self._show
        LOGGER.removeHandler(self._handler)
        self._handler.close()

    def _warned(self, message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, SightlineWarning):
            self._write(logging.WARNING, str(message))
        self._show(message, category, *place, **more)

    def _write(self, level: int, text: str) -> None:
        line = printable(" ".join(text.split()))
        LOGGER.log(level, "%s", line, extra={"run": self._handler.baseFilename})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container
        return "somebody"
