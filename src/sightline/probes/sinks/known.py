"""Sink dimensions that others reported: a hint to hold beside what is found, never used in its place.

They are properties of a checkpoint's weights. Fine-tuning rarely moves them, another size always does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """Dimensions somebody reported. pattern: of model names, read without regard to case or punctuation."""

    pattern: str
    dims: tuple[int, ...]
    source: str


_VAR = "arXiv 2503.03321 and its code, seilk/VisAttnSink"
_SECONDHAND = "reported by third parties, not confirmed in a method's own code"

KNOWN = (
    Reported(r"(llama-?2|llava-?(v1-?5|1-?5)|vicuna).*(^|\D)7b", (1415, 2533), _VAR),
    Reported(r"(llama-?2|llava-?(v1-?5|1-?5)|vicuna).*(^|\D)13b", (2100, 4743), _VAR),
    Reported(r"qwen2(-?5)?-?vl.*(^|\D)7b", (458, 2570), _SECONDHAND),
    Reported(r"qwen2-?5-?vl.*(^|\D)3b", (1819, 1874), f"{_SECONDHAND}; sometimes with 318"),
    Reported(r"qwen2-?5-?vl.*(^|\D)32b", (3094, 4675), _SECONDHAND),
    Reported(r"qwen2-?vl.*(^|\D)2b", (534, 940, 1073), _SECONDHAND),
    Reported(r"internvl-?2(?!-5).*\D8b", (3584,), _SECONDHAND),
    Reported(r"llama-?3(?!-\d(-|$)).*\D8b", (788, 1384, 4062), _SECONDHAND),
)
"""Qwen3-VL is left out: sources disagree."""


def known_sinks(model: str) -> Reported | None:
    """What was reported for a model of this name, or None."""
    name = re.sub(r"[^a-z0-9]+", "-", model.rsplit("/", 1)[-1].lower())
    return next((entry for entry in KNOWN if re.search(entry.pattern, name)), None)
