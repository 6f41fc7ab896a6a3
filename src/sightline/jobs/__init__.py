"""One job a file: settings in, a result out; the command line and Python both call these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.jobs.paper_figures import write_figures
else:  # it reads every kind of run, a training's among them
    __getattr__ = names_of(__name__, {"sightline.jobs.paper_figures": "write_figures"})

__all__ = ["write_figures"]
