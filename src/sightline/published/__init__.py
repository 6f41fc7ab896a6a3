"""Published tables as small files that say what was run: model, data, methods, decoding, and the figures to reach."""

from sightline.knockout.flow import FLOWS, FlowResult, information_flow, question_positions
from sightline.methods.repeat import Repeat
from sightline.published.table import Published, Reproduction, find_reproduction, reproductions

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
