"""Published tables as small files that say what was run: model, data, methods, decoding, and the figures to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.knockout.flow import FLOWS, FlowResult, information_flow, question_positions
    from sightline.methods.repeat import Repeat
    from sightline.published.table import Published, Reproduction, find_reproduction, reproductions
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.knockout.flow": "FLOWS FlowResult information_flow question_positions",
            "sightline.methods.repeat": "Repeat",
            "sightline.published.table": "Published Reproduction find_reproduction reproductions",
        },
    )

__all__ = [
    "FLOWS",
    "FlowResult",
    "Published",
    "Repeat",
    "Reproduction",
    "find_reproduction",
    "information_flow",
    "question_positions",
    "reproductions",
]
