"""Loading what the user named, quietly."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.options import Common

if TYPE_CHECKING:
    from sightline.vlm import VLM


def load_model(name: str, common: Common, layout: Path | None = None) -> VLM:
    """The model under the command's options; of several processes each takes its own GPU."""
    from transformers.utils import logging

    from sightline.vlm import load

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    device = common.device
    rank = os.environ.get("LOCAL_RANK")
    if device == "auto" and rank is not None and _has_cuda():
        device = f"cuda:{rank}"
    return load(name, dtype=common.dtype, device=device, quantize=common.quantize, layout=layout)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
